"""Records of many megabytes: acknowledged ones are read, larger ones are refused, torn ones are skipped."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log import segment, segment_reader
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import AddItems, Click, Event
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.segment_folder import parsed_position, position_of
from tests.support.online.file_logs import events_of

SEGMENT = "events-0000000000.log"


def many_items(count: int = 9_000, d: int = 8) -> AddItems:
    """Return added items as one record of about 1.5 MB."""
    row = tuple((2 + place) ** 0.3 for place in range(d))
    return AddItems(tuple(f"sku-{place}" for place in range(count)), None, (row,) * count, 1)


def torn(folder: Path, size: int) -> None:
    """Append what a writer leaves that is killed within a record of many MB."""
    with (folder / SEGMENT).open("ab") as file:
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
    log.close()


def test_a_record_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    line = many_items().line()
    record = b"\n%08x %b\n" % (zlib.crc32(line), line)
    for begin in range(0, len(record), 300_000):
        assert log.read(START) == []
        with (tmp_path / SEGMENT).open("ab") as file:
            file.write(record[begin : begin + 300_000])
    assert [entry.event for entry in log.read(START)] == [many_items()]
    assert log.damaged == 0
    log.close()


@pytest.mark.parametrize("sealed", [False, True])
def test_a_large_torn_record_damages_no_other(tmp_path: Path, sealed: bool) -> None:
    log = FileLog(tmp_path, segment_bytes=1 << 20 if sealed else 64 << 20)
    log.append([Click("s", 1, 1)])
    torn(tmp_path, 3 << 20)
    assert [entry.event for entry in log.read(START)] == [Click("s", 1, 1)]
    assert log.damaged == 0, "its end may still come"
    log.append([Click("s", 2, 2)])
    assert events_of(log) == [Click("s", 1, 1), Click("s", 2, 2)]
    assert log.damaged == 1
    log.close()


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
    log.close()


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
    log.close()


def test_reading_a_record_without_an_end_takes_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    monkeypatch.setattr(segment_reader, "MAX_RECORD_BYTES", 1 << 20)
    monkeypatch.setattr(segment_reader, "_READ_BYTES", 3 << 17)  # no divisor of it
    torn(tmp_path, 5 << 20)
    data, may_come = log._lines(0, 1)
    assert len(data) == (1 << 20) + 10
    assert not may_come
    assert log.read(START) == []
    log.close()
