"""The machine record says what was measured on, and nothing about who or where."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from bench.harness.machine import Checkout, checkout, describe, machine_record, usable_cores


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_record_is_json_and_names_the_processor_and_versions():
    record = machine_record()
    assert json.loads(json.dumps(record)) == record
    assert record["cpu"]
    assert record["cores"] == usable_cores() >= 1
    assert record["memory_gib"] > 0
    assert record["packages"]["numpy"] == metadata.version("numpy")
    if Path("/proc/cpuinfo").exists():
        words = Path("/proc/cpuinfo").read_text().split()
        assert set(record["flags"]) <= set(words)
        assert ("avx2" in record["flags"]) == ("avx2" in words)
    assert record["cpu"] in describe(record)
    assert "\n" not in describe(record)


def test_the_record_names_no_host_user_or_path():
    text = json.dumps(machine_record())
    for private in (socket.gethostname(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert f'"{private}"' not in text
    assert os.sep + "home" not in text
    assert str(Path.cwd()) not in text


def test_checkout_tells_commit_and_dirt(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkout(tmp_path) == Checkout(None, False)
    assert checkout(tmp_path).as_json() is None

    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("1")
    assert checkout(tmp_path) == Checkout(None, True)

    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-q", "-m", "m")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert checkout(tmp_path).as_json() == commit
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "new").write_text("1")
    assert checkout(tmp_path).as_json() == f"{commit}-dirty"
    assert checkout(tmp_path, ignoring="docs").as_json() == commit
    (tmp_path / "file").write_text("2")
    assert checkout(tmp_path).as_json() == f"{commit}-dirty"
    assert checkout(tmp_path, ignoring="docs").as_json() == f"{commit}-dirty"


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checkout(tmp_path) == Checkout(None, False)


@pytest.mark.parametrize("cpuinfo", ["", "Features\t: fp asimd i8mm\n\nFeatures\t: fp\n"])
def test_other_processors_and_systems_have_a_record_too(tmp_path, monkeypatch, cpuinfo):
    path = tmp_path / "cpuinfo"
    if cpuinfo:
        path.write_text(cpuinfo)
    monkeypatch.setattr("bench.harness.machine.Path", lambda name: path if "cpuinfo" in name else tmp_path / "none")
    record = machine_record()
    assert record["flags"] == (["asimd", "i8mm"] if cpuinfo else [])
    assert record["cpu"]
    assert record["cache_kib"] == {}
    assert describe(record)
