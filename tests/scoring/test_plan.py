"""The plan of a scoring: parts that are there, and folders of another one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.scoring import plan
from tests.support.random_bundle import bundle_parts, contents, memory_parts, save_parts
from tests.support.scoring.command import one_line, score
from tests.support.scoring.inputs import random_sessions, read_scores, write_sessions


def test_a_damaged_part_is_written_again_and_a_whole_folder_left_alone(
    bundle: Path, sessions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert score(bundle, sessions, out, "--block-rows", 64) == 0
    before = contents(out)
    (out / "part-000001.parquet").write_bytes(b"PAR1")
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert score(bundle, sessions, out, "--block-rows", 64) == 0
    assert contents(out) == before
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"part-000001.parquet"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["-k", "5"], "another k: k 20 there, 5 now"),
        (["--exclude-seen"], "exclude_seen"),
        (["bundle"], "another bundle"),
        (["sessions"], "other sessions"),
        (["--block-rows", "64"], "block_rows"),
    ],
)
def test_another_work_is_refused(
    bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, change: list[str], named: str
) -> None:
    assert score(bundle, sessions, tmp_path / "out") == 0
    before = contents(tmp_path / "out")
    other, file = bundle, sessions
    if change == ["bundle"]:
        other, change = tmp_path / "other", []
        save_parts(other, **bundle_parts(seed=3), **memory_parts())
    if change == ["sessions"]:
        file, change = write_sessions(tmp_path / "sessions.parquet", random_sessions(300, seed=5), group=70), []
    assert score(other, file, tmp_path / "out", *change) == 2
    assert one_line(capsys, named)
    assert contents(tmp_path / "out") == before


def test_two_runs_at_once_do_not_mix(
    bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "out").mkdir()
    held = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    assert score(bundle, sessions, tmp_path / "out") == 1
    assert one_line(capsys, "is being written by another process")
    os.close(held)
    assert score(bundle, sessions, tmp_path / "out") == 0


def test_the_same_sessions_in_another_order_are_others(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "sessions.parquet"
    clicks = ["sku-1", "sku-2", "sku-3"]
    write_sessions(file, [(f"visit-{row}", clicks) for row in range(100)])
    size = file.stat().st_size
    assert score(bundle, file, tmp_path / "out") == 0
    write_sessions(file, [(f"visit-{row}", clicks[::-1]) for row in range(100)])
    assert file.stat().st_size == size
    assert score(bundle, file, tmp_path / "out") == 2
    assert one_line(capsys, "other sessions")


def test_a_run_that_another_one_overtakes_at_its_start_is_refused(
    bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, checked = tmp_path / "out", plan.check_writable

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(plan, "check_writable", checked)
        assert score(bundle, sessions, out, "-k", 5) == 0
        checked(*arguments)

    monkeypatch.setattr(plan, "check_writable", overtaken)
    assert score(bundle, sessions, out) == 2
    assert one_line(capsys, "another k: k 5 there, 20 now")
    assert {len(items) for _, items, _ in read_scores(out)} == {5}
