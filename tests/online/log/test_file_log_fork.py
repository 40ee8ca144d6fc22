"""A forked child appends to its parent's log through its own files and its own flusher thread."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from tests.support.forks import child
from tests.support.online.faults import cannot_start, open_segments

SECONDS = 5.0

OWN, THEIRS = Click("parent", 1, 1), Click("child", 2, 2)


def append_flushed_and_close(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda file: flushed.set())
    log.append([THEIRS])
    assert flushed.wait(SECONDS)
    log.close()
    assert open_segments(log.folder) == []


def test_what_a_child_appends_is_flushed_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    log.append([OWN])

    def work() -> None:
        append_flushed_and_close(log, monkeypatch)

    assert child(work) == 0
    log.append([OWN])
    assert [entry.event for entry in log.read(START)] == [OWN, THEIRS, OWN]
    log.close()


def test_a_child_that_can_start_no_thread_keeps_nothing_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileLog(tmp_path)
    log.append([OWN])

    def work() -> None:
        with monkeypatch.context() as patch:
            cannot_start(patch, "mtaw-fsync")
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    log.append([THEIRS])
        append_flushed_and_close(log, monkeypatch)

    assert child(work) == 0
    assert [entry.event for entry in log.read(START)] == [OWN, THEIRS]
    log.close()


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
    log.close()


def test_a_lock_that_another_thread_holds_is_free_in_the_child(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    with log._lock:
        assert child(lambda: log.append([THEIRS])) == 0
    assert [entry.event for entry in log.read(START)] == [THEIRS]
    log.close()


def test_a_child_that_appended_nothing_closes_what_it_got(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.append([OWN])

    def work() -> None:
        log.close()
        assert open_segments(tmp_path) == []

    assert child(work) == 0
    log.append([OWN])
    log.close()
