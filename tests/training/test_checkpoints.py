"""The checkpoints of a run: damage, full disks and files of killed writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import TrainingError
from mtaw_fast.training import train
from tests.support.training.runs import CHILD, FailsAt, leftovers


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    child = CHILD.format(root=root, kill_at=-1, folder=str(tmp_path / "run"))
    limited = (
        "import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + child
    )
    process = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, cwd=root)
    assert process.returncode == 1
    assert "MtawError: cannot write" in process.stderr
    assert "free some space" in process.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_refused(ring: Dataset, small: Config, tmp_path: Path, monkeypatch: Any) -> None:
    FailsAt(monkeypatch, 30, float("nan"))
    with pytest.raises(TrainingError):
        train(ring, small, tmp_path)
    monkeypatch.undo()
    os.truncate(tmp_path / "checkpoint-search-1.safetensors", 5000)
    with pytest.raises(Exception, match="not a whole safetensors file"):
        train(ring, small, tmp_path, resume=True)


def test_what_a_killed_write_left_is_swept_on_resume(
    ring: Dataset, small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FailsAt(monkeypatch, 30, float("nan"))
    with pytest.raises(TrainingError):
        train(ring, small, tmp_path)
    monkeypatch.undo()
    (tmp_path / ".checkpoint-search-2.safetensors.abc.tmp").write_bytes(b"half")
    train(ring, small, tmp_path, resume=True)
    assert leftovers(tmp_path) == {"state.json", "metrics.jsonl", "curves.png", "checkpoint-refit-4.safetensors"}
