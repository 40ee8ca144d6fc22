"""The threads and descriptors of a log: appends do not wait for the disk, unless `fsync` is set, nor for a fork."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log import flusher
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from tests.support.forks import child
from tests.support.online.file_logs import cannot_start, open_segments, raises, system_error
from tests.support.service.running import eventually

SECONDS = 5.0


class SlowDisk:
    """An `os.fdatasync` that waits for `through`, and records the path and size of each file it flushed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.through, self.asked = threading.Event(), threading.Event()
        self.flushed: list[tuple[str, int]] = []
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, file: int) -> None:
        self.asked.set()
        self.through.wait(4 * SECONDS)
        self.flushed.append((os.path.realpath(f"/proc/self/fd/{file}"), os.fstat(file).st_size))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowDisk]:
    slow = SlowDisk(monkeypatch)
    yield slow
    slow.through.set()


def appended(log: FileLog, count: int) -> bool:
    """Return whether `count` appends return in time."""
    thread = threading.Thread(target=lambda: [log.append([Click("s", n, 1)]) for n in range(count)], daemon=True)
    thread.start()
    thread.join(SECONDS)
    return not thread.is_alive()


def test_a_change_of_segments_does_not_wait_and_flushes_each(tmp_path: Path, disk: SlowDisk) -> None:
    log = FileLog(tmp_path, segment_bytes=200)
    assert appended(log, 20), "a change of segments waited for the disk"
    disk.through.set()
    log.close()
    sizes = {str(path): path.stat().st_size for path in tmp_path.glob("events-*.log")}
    assert len(sizes) > 3
    assert sizes.items() <= set(disk.flushed), "a segment was closed before all of it was flushed"
    assert open_segments(tmp_path) == []


def test_closing_waits_for_the_flush_under_way_and_an_append_does_not(tmp_path: Path, disk: SlowDisk) -> None:
    log = FileLog(tmp_path)
    assert appended(log, 1)
    assert disk.asked.wait(SECONDS), "nothing was flushed"
    assert appended(log, 1), "an append waited for the disk"
    closing = threading.Thread(target=log.close, daemon=True)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive(), "the file was closed under its flush"
    disk.through.set()
    closing.join(SECONDS)
    assert not closing.is_alive()
    assert open_segments(tmp_path) == []


class BrokenDisk:
    """A function of `os` that raises in the flusher's thread after its work, while `broken`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._real = getattr(os, name)
        self.broken, self.failures = True, 0
        monkeypatch.setattr(os, name, self)
        monkeypatch.setattr(flusher, "RETRY_SECONDS", 0.01)

    def __call__(self, file: int) -> None:
        self._real(file)
        if self.broken and threading.current_thread().name == "mtaw-fsync":
            self.failures += 1
            raise OSError(errno.EIO, "Input/output error")


def test_after_a_flush_that_failed_nothing_is_acknowledged_until_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = BrokenDisk(monkeypatch, "fdatasync")
    log = FileLog(tmp_path)
    eventually(lambda: disk.failures > 0)
    eventually(lambda: log._flusher.failure is not None)
    with pytest.raises(LearnError, match=f"cannot flush the log in {tmp_path}: Input/output error; check the disk"):
        log.append([Click("s", 1, 1)])
    eventually(lambda: disk.failures > 3)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1, "it is logged once"
    assert messages[0].startswith(f"cannot flush the log in {tmp_path}: Input/output error; ")
    disk.broken = False
    eventually(lambda: log._flusher.failure is None)
    log.append([Click("s", 2, 1)])
    assert [entry.event for entry in log.read(START)] == [Click("s", 2, 1)], "what was refused was kept"


def test_closing_a_segment_that_fails_does_not_end_the_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = BrokenDisk(monkeypatch, "close")
    log = FileLog(tmp_path, segment_bytes=1)
    log.append([Click("s", 1, 1)])
    log.append([Click("s", 2, 1)])
    eventually(lambda: disk.failures > 0)
    disk.broken = False
    eventually(lambda: log._flusher.failure is None)
    assert "Input/output error" in caplog.text
    for number in range(5):
        log.append([Click("s", number, 2)])
    eventually(lambda: len(open_segments(tmp_path)) == 1)
    log.close()
    assert open_segments(tmp_path) == []


def test_a_last_flush_that_fails_is_logged_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log = FileLog(tmp_path)
    log.append([Click("s", 1, 1)])

    monkeypatch.setattr(os, "fdatasync", raises(system_error()))
    log.close()
    assert "cannot flush" in caplog.text
    assert open_segments(tmp_path) == []


OWN, THEIRS = Click("parent", 1, 1), Click("child", 2, 2)


def test_a_child_that_can_start_no_thread_keeps_nothing_until_it_can_and_then_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, flushed = FileLog(tmp_path), threading.Event()
    log.append([OWN])

    def work() -> None:
        with monkeypatch.context() as patch:
            cannot_start(patch, "mtaw-fsync")
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    log.append([THEIRS])
        monkeypatch.setattr(os, "fdatasync", lambda file: flushed.set())
        log.append([THEIRS])
        assert flushed.wait(SECONDS)
        log.close()
        assert open_segments(log.folder) == []

    assert child(work) == 0
    log.append([OWN])
    assert [entry.event for entry in log.read(START)] == [OWN, THEIRS, OWN]


@pytest.mark.parametrize("sync", [False, True])
def test_positions_are_right_while_both_append(tmp_path: Path, sync: bool) -> None:
    log = FileLog(tmp_path, fsync=sync)
    reader, writer = os.pipe()
    log.append([OWN])

    def work() -> None:
        end = log.append([THEIRS])
        os.write(writer, end.encode())

    assert child(work) == 0
    read = FileLog(tmp_path).read(START)
    assert [entry.position for entry in read][1] == os.read(reader, 100).decode()
    assert log.append([OWN]) == log.read(START)[-1].position
    log.close()
    os.close(reader)
    os.close(writer)


def test_the_folder_s_lock_holds_between_parent_and_child(tmp_path: Path) -> None:
    log = FileLog(tmp_path)

    def work() -> None:
        log.append([THEIRS])
        with pytest.raises(BlockingIOError):
            fcntl.flock(log._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with log._shared():
        assert child(work) == 0


def test_a_lock_that_another_thread_holds_is_free_in_the_child(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    with log._lock:
        assert child(lambda: log.append([THEIRS])) == 0
    assert [entry.event for entry in log.read(START)] == [THEIRS]


def test_a_child_that_appended_nothing_closes_what_it_got(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.append([OWN])

    def work() -> None:
        log.close()
        assert open_segments(tmp_path) == []

    assert child(work) == 0
    log.append([OWN])
