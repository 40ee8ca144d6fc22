"""The progress in a log: its file, and damage that is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import DataError
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors


@pytest.fixture
def progress() -> LogProgress:
    return LogProgress(
        "log-1", "00000012", {"now": 1_700_000_000_000},
        keys=np.array([3, 3, 9], np.uint64), sessions=np.array([0, 2, 1], np.int32), last=np.array([5, 7, 6], np.int64),
        untrained=np.array([4], np.int32), seed_items=np.array([4, 4], np.int32),
        seed_neighbors=np.array([0, 1], np.int32), seed_times=np.array([0, 9], np.int64), displays=[(4, 2)],
        open={"s": (8, 7, 2, False, [8])}, since=17,
    )  # fmt: skip


@pytest.fixture
def saved(progress: LogProgress, tmp_path: Path) -> Path:
    progress.save(tmp_path / "learned")
    return tmp_path / "learned"


def test_a_file_is_read_as_it_was_written(progress: LogProgress, saved: Path) -> None:
    read = LogProgress.load(saved)
    assert (read.log, read.position, read.clock) == (progress.log, progress.position, progress.clock)
    assert (read.open, read.since) == (progress.open, progress.since)
    assert [session for session, _ in read.sessions_of(3)] == [0, 2]
    assert read.seed_neighbors.tolist() == [0, 1]
    assert read.seed_times.tolist() == [0, 9]
    assert read.displays == [[4, 2]]


def test_vectors_given_by_hand_are_in_a_file_that_has_some(progress: LogProgress, saved: Path) -> None:
    assert not {"given_items", "given_vectors"} & map_tensors(saved).keys(), "earlier releases refuse other arrays"
    assert len(LogProgress.load(saved).given_vectors) == 0
    given = replace(progress, given_items=np.array([4], np.int32), given_vectors=np.ones(3, np.float32))
    given.save(saved)
    assert LogProgress.load(saved).given_vectors.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("keys", lambda array: array[::-1].copy(), "keys do not ascend"),
        ("keys", lambda array: array[:-1], "differ in length"),
        ("last", lambda array: array.astype(np.int32), "last must be a vector of int64"),
    ],
)
def test_damage_is_refused(saved: Path, name: str, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    arrays = map_tensors(saved)
    write_tensors(saved, arrays | {name: change(arrays[name])})
    with pytest.raises(DataError, match=message):
        LogProgress.load(saved)
