"""Reading segments: damage, missing segments and wrong positions are logged, counted or refused."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.segment_folder import SegmentFolder
from tests.support.online.file_logs import click, events_of


@pytest.mark.parametrize("cut", range(2, 40, 3))
def test_a_torn_tail_damages_no_other_record(tmp_path: Path, cut: int) -> None:
    log = FileLog(tmp_path)
    log.append([click(0)])
    log.append([click(1)])
    path = tmp_path / "events-0000000000.log"
    os.truncate(path, path.stat().st_size - cut)
    log.append([click(2)])
    assert events_of(log) == [click(0), click(2)]
    assert log.damaged == 1


def test_a_damaged_record_is_logged_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = FileLog(tmp_path)
    for number in range(3):
        log.append([click(number)])
    path = tmp_path / "events-0000000000.log"
    data = bytearray(path.read_bytes())
    place = data.index(b"item 1")
    data[place] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "mtaw_fast.online"):
        assert events_of(FileLog(tmp_path)) == [click(0), click(2)]
    begin = data.rindex(b"\n", 0, place) + 1
    assert f"{path}, byte {begin}" in caplog.text


@pytest.mark.parametrize("segment_bytes", [1, 64 << 20], ids=["sealed", "open"])
def test_damage_at_the_end_is_logged_once_whatever_the_number_of_reads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, segment_bytes: int
) -> None:
    log = FileLog(tmp_path, segment_bytes=segment_bytes)
    position = log.append([click(0)])
    path = tmp_path / "events-0000000000.log"
    with path.open("ab") as file:
        file.write(b"deadbeef {broken}\n00000000 half")
    if segment_bytes == 1:
        log._create_segment(1)
    count = 2 if segment_bytes == 1 else 1  # at the end of the newest segment, half a record is not damage yet
    for _ in range(3):
        assert log.read(position) == []
    assert [entry.event for entry in log.read(START)] == [click(0)]
    assert (log.damaged, len(caplog.messages)) == (count, count)
    log.append([click(1)])
    assert [entry.event for entry in log.read(position)] == [click(1)]
    assert [entry.event for entry in log.read(START)] == [click(0), click(1)]
    assert (log.damaged, len(caplog.messages)) == (2, 2)


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


@pytest.mark.parametrize("segment_bytes", [1, 64 << 20], ids=["sealed", "open"])
def test_what_a_read_found_no_event_in_is_no_lag(tmp_path: Path, segment_bytes: int) -> None:
    log = FileLog(tmp_path, segment_bytes=segment_bytes)
    position = log.append([click(0)])
    with (tmp_path / "events-0000000000.log").open("ab") as file:
        file.write(b"half a record " * 1000)
    if segment_bytes == 1:
        log._create_segment(1)
    assert log.lag(position) > 100, "before a read, they may be events"
    assert log.read(position) == []
    assert log.lag(position) == 0
    log.append([click(1)])
    assert log.lag(position) == 1
    assert log.lag(log.read(position)[-1].position) == 0


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


def segment(folder: Path, number: int) -> Path:
    return folder / f"events-{number:010d}.log"


@pytest.mark.parametrize("gone", [[4], [0, 1, 2, 3, 4]], ids=["newest", "all"])
def test_a_log_that_ends_before_a_position_is_an_error(tmp_path: Path, gone: list[int]) -> None:
    log, entries = of_segments(tmp_path)
    for number in gone:
        segment(tmp_path, number).unlink()
    with pytest.raises(LearnError, match=r"ends before position .* restore the newest one"):
        log.read(entries[-1].position)


def test_a_missing_segment_is_logged_once_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, entries = of_segments(tmp_path)
    segment(tmp_path, 2).unlink()
    for _ in range(2):
        assert log.read(entries[1].position) == entries[3:]
        assert log.read(entries[2].position) == entries[3:], "this one was in the middle of the segment"
    assert [line for line in caplog.messages if f"{segment(tmp_path, 2)} is missing" in line] == caplog.messages
    assert (log.damaged, len(caplog.messages)) == (1, 1)
    for number in (0, 1):
        segment(tmp_path, number).unlink()
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
    log.close()


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
    log.close()
