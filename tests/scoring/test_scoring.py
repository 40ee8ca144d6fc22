"""`mtaw-fast score` on one host: correct rows in order, the same bytes after a kill, folders of other work."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.recommender import Recommender
from mtaw_fast.scoring import plan
from mtaw_fast.scoring.sessions import read_rows
from tests.support.random_bundle import bundle_parts, contents, memory_parts, save_parts
from tests.support.ranking.timed_model import END, timed_model
from tests.support.scoring import ROWS, one_line, random_sessions, read_scores, score, write_sessions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "bundle"
    save_parts(folder, **bundle_parts(), **memory_parts())
    return folder


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sessions(tmp_path_factory.mktemp("score") / "sessions.parquet", ROWS, group=70)


@pytest.mark.parametrize("group", [1, 7, 50, 1000])
def test_rows_are_read_in_exact_batches_wherever_groups_end(tmp_path: Path, group: int) -> None:
    path = write_sessions(tmp_path / "s.parquet", ROWS, group=group)
    for first, rows, most in [(0, 300, 64), (13, 100, 32), (299, 1, 64), (49, 51, 50)]:
        batches = list(read_rows(path, first, rows, most))
        assert [len(batch) for batch in batches[:-1]] == [most] * (len(batches) - 1)
        names = [name for batch in batches for name in batch.column(0).to_pylist()]
        assert names == [name for name, _ in ROWS[first : first + rows]]


@pytest.mark.parametrize("options", [[], ["-k", "7", "--exclude-seen", "--exclude", "sku-3"]])
def test_every_row_is_what_recommend_says(bundle: Path, sessions: Path, tmp_path: Path, options: list[str]) -> None:
    assert score(bundle, sessions, tmp_path / "out", "--block-rows", 64, *options) == 0
    rec = Recommender.load(bundle)
    arguments: dict[str, Any] = {"k": 7, "exclude_seen": True, "exclude": ["sku-3"]} if options else {}
    scored = read_scores(tmp_path / "out")
    assert [row[0] for row in scored] == [name for name, _ in ROWS]
    for (_, items, scores), (_, session) in zip(scored, ROWS, strict=True):
        answer = rec.recommend(session, **arguments)
        assert items == answer.items
        assert np.array_equal(np.array(scores, np.float32), answer.scores)
    table = pq.read_table(tmp_path / "out")  # as other tools read the folder
    assert table.schema.field("scores").type == pa.list_(pa.float32())
    answers = [rec.recommend(session, **arguments) for _, session in ROWS]
    assert table["fallback"].to_pylist() == [answer.fallback for answer in answers]
    assert table["unknown"].to_pylist() == [len(answer.unknown) for answer in answers]


def test_threads_and_row_groups_change_no_byte(bundle: Path, sessions: Path, tmp_path: Path) -> None:
    regrouped = tmp_path / "sessions.parquet"
    write_sessions(regrouped, ROWS, group=300)
    assert score(bundle, sessions, tmp_path / "a", "--block-rows", 64, "--threads", 1) == 0
    assert score(bundle, regrouped, tmp_path / "b", "--block-rows", 64, "--threads", 3) == 0
    parts = [
        {name: digest for name, digest in contents(tmp_path / out).items() if name != "_plan.json"} for out in "ab"
    ]
    assert parts[0] == parts[1]
    assert len(parts[0]) == 6


def test_a_folder_of_files_and_an_empty_one(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_sessions(tmp_path / "in" / "1.parquet", ROWS[:10])
    pq.write_table(pq.read_table(tmp_path / "in" / "1.parquet").slice(0, 0), tmp_path / "in" / "2.parquet")
    write_sessions(tmp_path / "in" / "3.parquet", ROWS[10:20])
    assert score(bundle, tmp_path / "in", tmp_path / "out") == 0
    assert [row[0] for row in read_scores(tmp_path / "out")] == [name for name, _ in ROWS[:20]]


@pytest.mark.parametrize(
    ("parts", "kill_at"), [(15, [4]), pytest.param(30, [1, 8, 20], marks=pytest.mark.long(caught="here, killed once"))]
)
def test_killed_at_any_point_it_ends_in_the_same_bytes(
    bundle: Path, tmp_path: Path, parts: int, kill_at: list[int]
) -> None:
    sessions = write_sessions(tmp_path / "sessions.parquet", random_sessions(1000 * parts), group=4000)
    options = ["--block-rows", "1000", "-k", "20"]
    assert score(bundle, sessions, tmp_path / "whole", *options) == 0
    command = [sys.executable, "-m", "mtaw_fast", "score", str(bundle), str(sessions), str(tmp_path / "out"), *options]
    kills = 0
    for wanted in kill_at:
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list((tmp_path / "out").glob("part-*"))) < wanted:
            time.sleep(0.001)
        running.send_signal(signal.SIGKILL)
        kills += running.wait() == -signal.SIGKILL
        assert not (tmp_path / "out" / "_SUCCESS").exists()
    assert kills == len(kill_at)
    (tmp_path / "out" / f".part-{parts - 1:06}.parquet.abc.tmp").write_bytes(b"torn")
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_the_rest_stays(
    bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert score(bundle, sessions, whole, "--block-rows", 64) == 0
    with monkeypatch.context() as patch:
        patch.setattr("mtaw_fast.storage.files._fsync", _full_at(7))
        assert score(bundle, sessions, out, "--block-rows", 64) == 1
    assert one_line(capsys, "No space left on device; free some space")
    assert not list(out.glob(".*"))
    assert not (out / "_SUCCESS").exists()
    assert score(bundle, sessions, out, "--block-rows", 64) == 0
    assert contents(out) == contents(whole)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: pq.write_table(pa.table({"session_id": [1]}), path), "no column 'items'"),
        (lambda path: pq.write_table(pa.table({"session_id": [1], "items": ["a b"]}), path), "not lists of texts"),
        (lambda path: write_sessions(path, [("a", [1, 2])]), "the items are integers, this bundle's item ids are"),
        (lambda path: write_sessions(path, [("a", ["sku-1"]), ("b", None)]), "row 1 has no list"),  # type: ignore[list-item]
        (lambda path: write_sessions(path, [("a", ["sku-1", None])]), "has an empty id"),
        (lambda path: path.write_bytes(b"session_id,items\n"), "cannot be read as Parquet"),
    ],
)  # fmt: skip
def test_bad_sessions_are_one_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture, make: object, named: str
) -> None:
    make(tmp_path / "bad.parquet")  # type: ignore[operator]
    assert score(bundle, tmp_path / "bad.parquet", tmp_path / "out") == 1
    assert one_line(capsys, named)
    assert not list((tmp_path / "out").glob("part-*"))


def test_an_item_id_that_parquet_cannot_hold_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    names = [f"sku-{place}" for place in range(59)]
    save_parts(tmp_path / "bundle", **bundle_parts() | {"ids": ItemIds.from_list([*names, "half\ud800"])})
    file = write_sessions(tmp_path / "sessions.parquet", [("a", ["sku-1"])])
    assert score(tmp_path / "bundle", file, tmp_path / "out", "-k", 60) == 1
    assert one_line(capsys, "half\\ud800")


def test_a_file_of_empty_lists_fits_ids_of_either_kind(tmp_path: Path) -> None:
    """Nothing says what its items are; a visitor without a click gets what one gets."""
    rows = write_sessions(tmp_path / "sessions.parquet", [("a", []), ("b", [])])
    assert pa.types.is_null(pq.read_schema(rows).field("items").type.value_type)
    for text in (True, False):
        save_parts(tmp_path / f"{text}", **bundle_parts(text=text), **memory_parts())
        assert score(tmp_path / f"{text}", rows, tmp_path / f"{text}-out", "-k", 3) == 0
        answer = Recommender.load(tmp_path / f"{text}").recommend([], k=3)
        assert [row[:2] for row in read_scores(tmp_path / f"{text}-out")] == [("a", answer.items), ("b", answer.items)]


def _full_at(call: int) -> object:
    """In the place of `_fsync`: the disk is full at the call-th flush."""
    calls = []

    def flush(path: Path) -> None:
        calls.append(path)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")

    return flush


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


def test_misuse_is_one_line(bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    for arguments, message in (
        ([tmp_path / "mine"], "has other files than scores"),
        ([sessions], "is a file"),
        ([tmp_path / "out", "--actors", 2], "--actors needs --ray"),
        ([tmp_path / "out", "--at", "2020-01-01"], "was trained without times"),
        ([tmp_path / "out", "--block-rows", 0], "--block-rows must be at least 1"),
    ):
        assert score(bundle, sessions, *arguments) == 2
        assert one_line(capsys, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [END // 1000, "2150-01-01"])
def test_a_wrong_time_leaves_no_plan(
    sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, wrong: object
) -> None:
    """The right command would be refused in a folder with another plan."""
    Bundle.save(tmp_path / "bundle", timed_model(), metrics={}, dataset={})
    assert score(tmp_path / "bundle", sessions, tmp_path / "out", "--at", wrong) == 2
    assert one_line(capsys, "milliseconds")
    assert score(tmp_path / "bundle", sessions, tmp_path / "out", "--at", END) == 0
