"""The event log in a folder: one order for every reader, nothing lost, damage logged and skipped."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import DataError, LearnError
from mtaw_fast.items.placements import Revision
from mtaw_fast.online.log.checked_events import checked_click
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import (
    AddItems,
    Click,
    Event,
    Forget,
    HideItems,
    RemoveItems,
    SetPlacement,
    ShowItems,
    TablePart,
)
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.session_tracker import SessionTracker
from tests.support.online.file_logs import click, events_of, raises, system_error

EVERY_KIND: list[Event] = [
    click(0),
    Click("s", -5, 7),
    Click("ß\n \u2028", 'quo"te\\', 8, type="cart"),
    Click("s", "", 8, arrived=1_764_150_000_000, context={"referrer": "search"}),
    Forget("", 9),
    AddItems((), (), None, 10),
    AddItems(("new", "b"), (("a", "b"), ()), None, 10),
    AddItems((3, 4), None, ((0.5, -1e-9), (1, 2.0)), 11),
    AddItems((3,), None, None, 11),
    RemoveItems(("a", 4), 12),
    HideItems(("a",), 13),
    ShowItems(("a",), 14),
    TablePart("t", 1, 3, b"\0\xff", 15),
    SetPlacement("cart", {"sets": []}, 16),
    SetPlacement("cart", None, 17),
    SetPlacement("cart", None, 18, (Revision(1, 16, {"sets": []}),)),
]


def test_every_kind_of_event_comes_back(tmp_path: Path) -> None:
    log = FileLog(tmp_path / "log")
    end = log.append(EVERY_KIND)
    assert events_of(log) == EVERY_KIND
    assert log.read(end) == []
    assert log.read(START)[-1].position == end
    log.close()
    assert events_of(FileLog(tmp_path / "log")) == EVERY_KIND


def test_positions_rise_and_reading_continues_from_each_that_has_not_expired(tmp_path: Path) -> None:
    log = FileLog(tmp_path, segment_bytes=300)
    for number in range(20):
        log.append([click(number)])
    everything = log.read(START)
    positions = [entry.position for entry in everything]
    assert positions == sorted(set(positions))
    assert len({position[:10] for position in positions}) > 3, "the log was to span several segments"
    for place, position in enumerate(positions):
        assert [entry.event for entry in log.read(position)] == [entry.event for entry in everything[place + 1 :]]
    middle = everything[10]
    assert log.expire(middle.position, max_bytes=0) > 0, "whole old segments expire"
    remaining = log.read(START)
    assert remaining == everything[-len(remaining) :]
    assert middle in remaining
    assert log.expire(positions[-1], max_bytes=10**9) == 0


def test_threads_and_processes_share_one_order(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mtaw_fast.online.log.file_log import FileLog\n"
        "from mtaw_fast.online.log.events import Click\n"
        "log = FileLog(Path(sys.argv[1]), segment_bytes=5000)\n"
        "for n in range(200): log.append([Click(sys.argv[2], n, 1)])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in "ab"]
    log = FileLog(tmp_path, segment_bytes=5000)
    threads = [
        threading.Thread(target=lambda name=name: [log.append([Click(name, n, 1)]) for n in range(200)])
        for name in "cd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    events = events_of(log)
    assert len(events) == 800
    for name in "abcd":
        assert [event.item for event in events if event.session == name] == list(range(200))
    assert events == events_of(FileLog(tmp_path)), "two readers see two orders"
    assert log.damaged == 0


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_only_its_owner_reads_a_log(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "log"
    log = FileLog(folder, segment_bytes=1)
    for number in range(3):
        log.append([click(number)])
    assert mode_of(folder) == 0o700
    assert {mode_of(path) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.glob("events-*.log"))) == 3


def test_a_log_that_others_could_read_is_taken_from_them_when_it_is_opened(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        FileLog(folder).close()
        (folder / "bundle").mkdir(mode=0o755)
        for name in ("ranking-ids.key", ".items.lock"):  # of a service: it makes the key before it opens the log
            (folder / name).touch()
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)
    other = shared / "notes.txt"
    other.write_text("of somebody else")
    other.chmod(0o644)
    for folder in (alone, shared):
        FileLog(folder).close()
        assert mode_of(folder / "bundle") == 0o700
        assert {mode_of(path) for path in folder.iterdir() if path.is_file() and path != other} == {0o600}
    assert (mode_of(alone), mode_of(shared), mode_of(other)) == (0o700, 0o755, 0o644)


def test_a_folder_of_another_user_is_used_with_a_log_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(Path, "chmod", raises(system_error(errno.EPERM)))
    log_json = tmp_path / "log.json"
    log_json.write_text('{"version": 1, "log": "x"}')
    FileLog(tmp_path).close()
    assert [message for message in caplog.messages if "belongs to another user" in message]


def test_a_failed_fsync_says_that_the_events_may_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path, fsync=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", raises(system_error()))
        with pytest.raises(LearnError, match=r"Input/output error.*learned all the same: send them again with their"):
            log.append([click(1)])
    log.append([click(1), click(2)])
    tracker = SessionTracker(LearningLimits())
    [batch] = tracker.batches([event for event in events_of(log) if isinstance(event, Click)])
    assert [each.item for each in batch.clicks] == ["item 1", "item 2"], "a refused event counts twice"


def test_single_events_are_removed(tmp_path: Path) -> None:
    """Of any length, in several segments, and the last one too; a segment that is gone has none."""
    log = FileLog(tmp_path, segment_bytes=3000)
    for number in range(60):
        log.append([click(number, "s" * (1 + 37 * number % 500)), click(number, "t")])
    entries = log.read("")
    positions = [entry.position for place, entry in enumerate(entries) if place % 5 in (1, 2) or place >= 118]
    log.remove(positions[::-1])
    log.remove([])
    remaining = [entry for entry in entries if entry.position not in positions]
    assert log.read("") == FileLog(tmp_path).read("") == remaining
    assert log.damaged == 0
    log.append([click(99)])
    assert log.read(remaining[-1].position)[0].event == click(99)
    (tmp_path / "events-0000000000.log").unlink()
    log.remove(positions)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text('{"version": 2}')
    with pytest.raises(LearnError, match=r"log\.json does not describe an event log of version 1; give another folder"):
        FileLog(tmp_path)
    targets = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
    assert not [target for target in targets if target.startswith(str(tmp_path))]
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(LearnError, match=f"cannot learn in {file}"):
        FileLog(file)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("fsync", [False, True])
def test_nothing_is_acknowledged_into_a_removed_or_replaced_segment(
    tmp_path: Path, replaced: bool, fsync: bool
) -> None:
    folder = tmp_path / "log"
    log = FileLog(folder, fsync=fsync)
    log.append([click(0)])
    moved = folder.rename(tmp_path / "moved")
    if replaced:
        shutil.copytree(moved, folder)
    with pytest.raises(LearnError, match="was removed or replaced while it was in use; restore the log"):
        log.append([click(1)])
    shutil.rmtree(folder, ignore_errors=True)
    moved.rename(folder)
    log.append([click(2)])
    assert events_of(log) == [click(0), click(2)]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (("", "i"), "session must be a string"),
        (("s" * 513, "i"), "session has 513 characters"),
        (("\ud800", "i"), "is not valid Unicode"),
        (("s", ""), "item must be"),
        (("s", True), "item must be"),
        (("s", 1.5), "item must be"),
        (("s", np.array([1, 2])), "item must be"),
        (("s", "i", np.True_), "must be Unix milliseconds"),
        (("s", 2**63), "item must be"),
        (("s", "i", 1.5), "time 1.5 must be Unix milliseconds"),
        (("s", "i", 1_764_150_000), "time 1764150000 is in seconds; write it in milliseconds, 1764150000000"),
        (("s", "i", 10**18), "is in nanoseconds; write it in milliseconds, 1000000000000"),
        (("s", "i", 10**14), "must be Unix milliseconds"),
        (("s", "i", 1, ""), "type must be a string"),
        (("s", "i", 1, "t", 7), "id must be a string"),
    ],
)
def test_a_bad_event_is_one_line_that_names_it(values: tuple, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong) as caught:
        checked_click(*values, where="event 3")
    assert str(caught.value).startswith("event 3: ")
    assert "\n" not in str(caught.value)
