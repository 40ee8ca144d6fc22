"""Short forms of the kills and full disks of refreshes, in processes without other tests' threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.refreshing.full_disk import may_mount

pytestmark = pytest.mark.slow


def _run(module: str, runs: int, begun: Path) -> str:
    options = ["--runs", str(runs), "--kind", "update", "--begun", str(begun)]
    command = [sys.executable, "-m", f"tests.refreshing.{module}", *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_a_refresh_that_is_killed_ends_in_the_same_bytes(begun: Path) -> None:
    assert "5 kills: a whole bundle was served after each" in _run("kills", 4, begun)


def test_a_refresh_on_a_full_disk_says_so_and_ends_in_the_same_bytes(begun: Path) -> None:
    if not may_mount():
        pytest.skip("this host lets no user mount a file system")
    assert "5 runs: a whole bundle was served after each" in _run("full_disk", 5, begun)
