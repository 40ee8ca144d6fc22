"""The bench of partitions: the same bits, and an error ends it with one line and no thread."""

from __future__ import annotations

import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bench.harness.peak_memory import highest
from bench.prepare import partitions
from mtaw_fast.data.synthetic_log import write_click_log


def test_the_highest_value_is_kept_and_the_thread_ends_with_the_work() -> None:
    values, looked, before = iter([1, 5, 2]), threading.Event(), threading.active_count()

    def look() -> int:
        value = next(values, 3)
        if value == 3:
            looked.set()
        return value

    with highest(look, 0.001) as peaks:
        assert looked.wait(30)
    assert peaks == [5]
    with pytest.raises(ZeroDivisionError), highest(lambda: 0, 0.001):
        _ = 1 / 0
    assert threading.active_count() == before


def test_the_disk_is_that_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(7))
    (tmp_path / "c").write_bytes(bytes(5))
    assert partitions.disk_bytes(tmp_path) == 12
    assert partitions.disk_bytes(tmp_path / "none") == 0


def test_partitions_are_compared_with_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def in_threads(workers: int, _: Any) -> Executor:
        return ThreadPoolExecutor(workers)

    monkeypatch.setattr(partitions, "ProcessPoolExecutor", in_threads)
    write_click_log(tmp_path / "log.csv", n_items=200, n_sessions=1500, seed=0)
    assert partitions.main([str(tmp_path / "log.csv"), "--partitions", "2", "--check"]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("the same set as of one process\n")
    steps = [line.split()[:2] for line in printed.splitlines() if " calls " in line]
    assert steps[1:] == [
        ["scatter", "1"],
        ["cut", "2"],
        ["keep", "2"],
        ["gather", "2"],
        ["number", "2"],
        ["sample", "1"],
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_an_error_is_one_line_and_leaves_no_thread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = threading.active_count()
    (tmp_path / "log.csv").write_text("session_id,item_id\n1,2\n")
    for arguments, named in (
        ([tmp_path / "none.csv"], "none.csv does not exist"),
        ([tmp_path / "log.csv", "--partitions", "0"], "at least 1, not 0"),
    ):
        assert partitions.main([str(argument) for argument in arguments]) > 0
        error = capsys.readouterr().err
        assert named in error
        assert error.count("\n") == 1
    assert threading.active_count() == before
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]
