"""Reading segments: damage, missing segments, wrong positions and records of many megabytes."""

from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log import segment, segment_reader
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import AddItems, Click, Event
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.segment_folder import SegmentFolder, parsed_position, position_of
from tests.support.online.file_logs import click, events_of


@pytest.mark.parametrize("segment_bytes", [1, 64 << 20], ids=["sealed", "open"])
def test_damage_at_the_end_is_logged_once_whatever_the_number_of_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, segment_bytes: int
) -> None:
    log = FileLog(tmp_path, segment_bytes=segment_bytes)
    position = log.append([click(0)])
    path = tmp_path / "events-0000000000.log"
    with path.open("ab") as file:
        file.write(b"deadbeef {broken}\n00000000 " + b"half a record " * 1000)
    if segment_bytes == 1:
        log._create_segment(1)
    count = 2 if segment_bytes == 1 else 1  # at the end of the newest segment, half a record is not damage yet
    assert log.lag(position) > 100, "before a read, they may be events"
    for _ in range(3):
        assert log.read(position) == []
    assert [entry.event for entry in log.read(START)] == [click(0)]
    assert (log.damaged, len(caplog.messages)) == (count, count)
    assert log.read(position) == []
    assert log.lag(position) == 0, "what a read found no event in is no lag"
    log.append([click(1)])
    assert log.lag(position) == 1
    assert [entry.event for entry in log.read(position)] == [click(1)]
    assert [entry.event for entry in log.read(START)] == [click(0), click(1)]
    assert (log.damaged, len(caplog.messages)) == (2, 2)
    assert caplog.messages[0].startswith(f"{path}, byte {parsed_position(position)[1]}: skipped")


def test_the_lag_is_about_the_number_of_events_after_a_position(tmp_path: Path) -> None:
    log = FileLog(tmp_path, segment_bytes=3000)
    assert log.lag(START) == 0
    for number in range(200):
        log.append([click(number)])
    everything = log.read(START)
    for place in (0, 7, 99, 150, 198):
        assert log.lag(everything[place].position) == pytest.approx(199 - place, rel=0.1, abs=1)
    assert log.lag(everything[-1].position) == 0
    assert log.lag(START) == pytest.approx(200, rel=0.1)
    assert log.end() == everything[-1].position


@pytest.mark.parametrize("position", ["7", "a-b", "1-2-3"])
def test_a_bad_position_is_refused(tmp_path: Path, position: str) -> None:
    with pytest.raises(LearnError, match="is not a position"):
        FileLog(tmp_path).read(position)


def test_a_log_that_was_cut_short_is_named(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    end = log.append([click(1)])
    os.truncate(tmp_path / "events-0000000000.log", 3)
    with pytest.raises(LearnError, match="was cut short"):
        log.read(end)


def of_segments(folder: Path) -> tuple[FileLog, list[LogEntry]]:
    """Return a log with one event in each of its segments 0 to 4, and its entries."""
    log = FileLog(folder, segment_bytes=1)
    for number in range(5):
        log.append([click(number)])
    return log, log.read(START)


def path_of(folder: Path, number: int) -> Path:
    return folder / f"events-{number:010d}.log"


@pytest.mark.parametrize("gone", [[4], [0, 1, 2, 3, 4]], ids=["newest", "all"])
def test_a_log_that_ends_before_a_position_is_an_error(tmp_path: Path, gone: list[int]) -> None:
    log, entries = of_segments(tmp_path)
    for number in gone:
        path_of(tmp_path, number).unlink()
    with pytest.raises(LearnError, match=r"ends before position .* restore the newest one"):
        log.read(entries[-1].position)


def test_a_missing_segment_is_logged_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, entries = of_segments(tmp_path)
    path_of(tmp_path, 2).unlink()
    for _ in range(2):
        assert log.read(entries[1].position) == entries[3:]
        assert log.read(entries[2].position) == entries[3:], "this one was in the middle of the segment"
    assert [line for line in caplog.messages if f"{path_of(tmp_path, 2)} is missing" in line] == caplog.messages
    assert (log.damaged, len(caplog.messages)) == (1, 1)
    for number in (0, 1):
        path_of(tmp_path, number).unlink()
    assert FileLog(tmp_path).read(START) == entries[3:]
    assert len(caplog.messages) == 1, "a log whose oldest events expired is whole"


def test_a_segment_that_expires_between_listing_and_opening_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileLog(tmp_path, segment_bytes=200)
    for number in range(20):
        log.append([Click("s", number, 1)])
    everything = log.read(START)
    real = SegmentFolder.numbers

    def then_expired(self: SegmentFolder) -> list[int]:
        numbers = real(self)
        monkeypatch.setattr(SegmentFolder, "numbers", real)
        assert log.expire(everything[12].position, max_bytes=0) > 1
        return numbers

    monkeypatch.setattr(SegmentFolder, "numbers", then_expired)
    remaining = log.read(START)
    assert remaining == everything[-len(remaining) :]
    assert everything[12] in remaining


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOENT])
def test_a_log_that_cannot_be_read_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    log = FileLog(tmp_path)
    position = log.append([Click("s", 1, 1)])

    def broken(self: Path, *arguments: Any, **named: Any) -> None:
        raise OSError(code, os.strerror(code), str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", broken)
        for work in (lambda: log.read(START), lambda: log.read(position)):
            with pytest.raises(LearnError) as caught:
                work()
            message = str(caught.value)
            assert message.startswith(
                f"cannot read {tmp_path}/events-0000000000.log: {os.strerror(code)}; check the disk"
            )
            assert "\n" not in message
    assert [entry.event.item for entry in log.read(START)] == [1]


FIRST = "events-0000000000.log"


def many_items(count: int = 9_000, d: int = 8) -> AddItems:
    """Return added items as one record of about 1.5 MB."""
    row = tuple((2 + place) ** 0.3 for place in range(d))
    return AddItems(tuple(f"sku-{place}" for place in range(count)), None, (row,) * count, 1)


def torn(folder: Path, size: int) -> None:
    """Append what a writer leaves that is killed within a record of many MB."""
    with (folder / FIRST).open("ab") as file:
        file.write(b"\n00000000 " + b"x" * size)


@pytest.mark.parametrize("segment_bytes", [1 << 20, 64 << 20])
def test_a_record_of_more_than_a_megabyte_comes_back(tmp_path: Path, segment_bytes: int) -> None:
    log = FileLog(tmp_path, segment_bytes=segment_bytes)
    events: list[Event] = [
        Click("s", 1, 1),
        many_items(),
        Click("s", 2, 2),
        many_items(20_000),
        many_items(),
        Click("s", 3, 3),
    ]
    assert len(events[1].line()) > 1_400_000
    for event in events:
        end = log.append([event])
    log.append(events)
    assert events_of(log) == 2 * events
    assert log.read(START, len(events))[-1].position == end
    assert log.damaged == 0


def test_a_record_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    line = many_items().line()
    record = b"\n%08x %b\n" % (zlib.crc32(line), line)
    for begin in range(0, len(record), 300_000):
        assert log.read(START) == []
        with (tmp_path / FIRST).open("ab") as file:
            file.write(record[begin : begin + 300_000])
    assert [entry.event for entry in log.read(START)] == [many_items()]
    assert log.damaged == 0


@pytest.mark.parametrize("limit", [1 << 20, 64 << 20], ids=["a run above the limit", "half a record"])
def test_what_holds_no_event_is_read_once_while_nothing_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    log = FileLog(tmp_path)
    number, offset = parsed_position(log.append([Click("s", 1, 1)]))
    monkeypatch.setattr(segment_reader, "MAX_RECORD_BYTES", limit)
    torn(tmp_path, 5 << 20)
    position = position_of(number, offset + 1)  # after the newline before it
    assert log.read(position) == []
    assert (log.damaged > 1) == (limit == 1 << 20)
    with monkeypatch.context() as patched:
        patched.setattr(segment_reader, "_READ_BYTES", None)  # reading fails
        assert log.read(position) == []
    log.append([Click("s", 2, 2)])
    assert [entry.event for entry in log.read(position)] == [Click("s", 2, 2)]


def test_a_record_above_the_limit_is_refused_and_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = many_items().line()
    log = FileLog(tmp_path)
    for module in (segment, segment_reader):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", len(line))
    monkeypatch.setattr(segment_reader, "_READ_BYTES", 1 << 16)
    log.append([many_items()])
    with pytest.raises(LearnError, match=rf"1,\d+,\d+ bytes is too large for the log in {tmp_path}.*fewer items"):
        log.append([Click("s", 1, 1), many_items(9_001)])
    assert events_of(log) == [many_items()], "a part of what was refused was kept"
    torn(tmp_path, 4 * len(line))
    log.append([Click("s", 2, 2)])
    assert events_of(log) == [many_items(), Click("s", 2, 2)]
    assert log.damaged > 0


def test_reading_a_record_without_an_end_takes_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    monkeypatch.setattr(segment_reader, "MAX_RECORD_BYTES", 1 << 20)
    monkeypatch.setattr(segment_reader, "_READ_BYTES", 3 << 17)  # no divisor of it
    torn(tmp_path, 5 << 20)
    data, may_come = log._lines(0, 1)
    assert len(data) == (1 << 20) + 10
    assert not may_come
    assert log.read(START) == []
