"""A load that fails leaves no thread, no open file and no needless folder."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.errors import LearnError, MtawError, UsageError
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.served_pipeline import ServedPipeline
from mtaw_fast.service.snapshot import load_snapshot
from mtaw_fast.system import host
from tests.support.online.faults import cannot_start
from tests.support.random_bundle import bundle_parts

pytestmark = pytest.mark.slow


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], list[object]]:
    """Return a function that lists threads started since, and open files of the learning folder."""
    before = set(threading.enumerate())

    def found() -> list[object]:
        targets = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        files = [target for target in targets if target.startswith(str(tmp_path / "learned"))]
        return [*(set(threading.enumerate()) - before), *files]

    return found


def raises(error: Exception) -> Callable[..., Any]:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    return failing


FAILURES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "log": lambda patch: patch.setattr(FileLog, "read", raises(LearnError("cannot read the log"))),
    "publish": lambda patch: patch.setattr(ServedPipeline, "switch_to", raises(MemoryError("no room"))),
    "follower": lambda patch: cannot_start(patch, "mtaw-follower"),
    "flusher": lambda patch: cannot_start(patch, "mtaw-fsync"),
    "watch": lambda patch: cannot_start(patch, "mtaw-learner"),
}


@pytest.mark.parametrize("failing", FAILURES)
def test_a_load_that_fails_releases_everything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Callable[[], list[object]], failing: str
) -> None:
    FAILURES[failing](monkeypatch)
    with pytest.raises((MtawError, MemoryError, RuntimeError)):
        Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", compact=False))
    assert left() == []


def test_what_cannot_learn_opens_no_log(tmp_path: Path, left: Callable[[], list[object]]) -> None:
    fields = bundle_parts(n_items=40, embedding_dim=8, seed=1)
    fields.pop("metrics"), fields.pop("dataset")
    Bundle.save(tmp_path / "plain", Model.of(**fields), metrics={}, dataset={})
    with pytest.raises(UsageError, match="has no session memory, so it cannot learn; train it with preset full"):
        Recommender.load(tmp_path / "plain", learn=tmp_path / "learned")
    assert left() == []
    assert not (tmp_path / "learned").exists()


def test_a_service_that_cannot_load_a_bundle_releases_everything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Callable[[], list[object]]
) -> None:
    monkeypatch.setattr(Pipeline, "recommend", raises(MemoryError("no room")))
    with pytest.raises(MemoryError, match="no room"):
        load_snapshot(folder, "auto", "auto", LearningSettings(tmp_path / "learned", compact=False))
    assert left() == []


def test_a_full_disk_is_a_folder_that_cannot_be_learned_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Callable[[], list[object]]
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(host, "open_stream", raises(full))
    with pytest.raises(LearnError, match=r"cannot write .*log\.json: No space left on device; free some space"):
        FileLog(tmp_path / "learned")
    assert left() == []
