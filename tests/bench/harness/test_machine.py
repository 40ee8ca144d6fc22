"""The machine record says what was measured on and nothing about who or where; peak memory covers the work alone."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from bench.harness.machine import commit_of, describe, machine_record, usable_cores
from bench.harness.peak_memory import peak_of_prepared
from mtaw_fast.errors import MtawError

MIB = 1 << 20


def test_the_record_is_json_and_names_processor_and_versions_but_no_host_user_or_path() -> None:
    record = machine_record()
    text = json.dumps(record)
    assert json.loads(text) == record
    assert record["cores"] == usable_cores() >= 1
    assert record["memory_gib"] > 0
    assert record["packages"]["numpy"] == metadata.version("numpy")
    words = Path("/proc/cpuinfo").read_text().split()
    assert set(record["flags"]) <= set(words)
    assert ("avx2" in record["flags"]) == ("avx2" in words)
    assert record["cpu"] in describe(record)
    for private in (socket.gethostname(), getpass.getuser(), str(Path.home()), str(Path.cwd())):
        assert f'"{private}"' not in text
    assert os.sep + "home" not in text


def test_checkout_tells_commit_and_dirt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.check_output(["git", *identity, *arguments], cwd=tmp_path, text=True).strip()

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit_of(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    assert commit_of(tmp_path) is None
    git("add", "file")
    git("commit", "-q", "-m", "m")
    commit = git("rev-parse", "HEAD")
    assert commit_of(tmp_path) == commit
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "new").write_text("1")
    assert commit_of(tmp_path) == f"{commit}-dirty"
    assert commit_of(tmp_path, ignoring="docs") == commit
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(tmp_path) is None


def prepare_much_and_then(mebibytes: int) -> Callable[[], None]:
    np.ones(300 * MIB, np.uint8)
    held = np.ones(100 * MIB, np.uint8)

    def run() -> None:
        np.ones(mebibytes * MIB, np.uint8)
        assert held[0] == 1

    return run


def fail() -> Callable[[], None]:
    raise ValueError("too\nmuch")


def vanish() -> Callable[[], None]:
    os._exit(7)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="this system cannot restart its peak")
def test_the_peak_is_what_the_work_touched_and_not_what_was_prepared() -> None:
    assert 145 * MIB < peak_of_prepared(prepare_much_and_then, 150) < 200 * MIB


@pytest.mark.parametrize(("work", "reason"), [(fail, "measuring fail: ValueError: too$"), (vanish, "ended early")])
def test_work_that_fails_says_so_in_one_line(work: Callable[..., Callable[[], None]], reason: str) -> None:
    with pytest.raises(MtawError, match=reason) as caught:
        peak_of_prepared(work)
    assert "\n" not in str(caught.value)
