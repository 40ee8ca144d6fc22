"""Events that libmtaw appends are those of the package: the same records, learned by its processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ctypes import byref, c_char, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.online.log.events import Click, Forget
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.recommender import Recommender
from tests.libmtaw.test_answers import saved
from tests.support.cache import ROOT
from tests.support.libmtaw import LOG, USAGE, CallError, Context, Event, call, library, one_id

CLICKS = [
    Click("s-1", "sku-9", 1_764_150_000_000),
    Click('Zoë "q"\\', "日本\t\x01/", 1_764_150_000_001, "view", "e-1"),
    Click("s-2", -(2**63), 1_764_150_000_002, None, "e-2", None, {"referrer": "mail\n", "region": "\x7f"}),
]


class Log:
    """A log that is open in libmtaw."""

    def __init__(self, folder: Path, flags: int = 0) -> None:
        self.handle = c_void_p()
        call("log_open", str(folder).encode(), flags, byref(self.handle))

    def append(self, *clicks: Click) -> str:
        """See mtaw_log_append."""
        position = (c_char * 32)()
        events, keep = (Event * len(clicks))(), []
        for event, click in zip(events, clicks, strict=True):
            context = click.context or {}
            columns = (Context * len(context))(*(Context(k.encode(), v.encode()) for k, v in context.items()))
            keep.append(columns)
            event.session, event.item, event.time = click.session.encode(), one_id(click.item), click.time
            event.type = None if click.type is None else click.type.encode()
            event.id = None if click.id is None else click.id.encode()
            event.context, event.n_context = columns, len(context)
        call("log_append", self.handle, events, c_size_t(len(clicks)), position)
        return position.value.decode()

    def close(self) -> None:
        """Free it."""
        library().mtaw_log_close(self.handle)


def events_of(log: FileLog) -> list[Any]:
    return [entry.event for entry in log.read("")]


def test_records_are_those_of_the_package(tmp_path: Path) -> None:
    ours, theirs = Log(tmp_path / "new" / "c"), FileLog(tmp_path / "python")
    assert ours.append(*CLICKS) == theirs.append(CLICKS)
    assert ours.append(CLICKS[0]) == theirs.append(CLICKS[:1])
    ours.close()
    name = "events-0000000000.log"
    assert (tmp_path / "new" / "c" / name).read_bytes() == (tmp_path / "python" / name).read_bytes()
    reopened = FileLog(tmp_path / "new" / "c")
    assert events_of(reopened) == [*CLICKS, CLICKS[0]]
    assert reopened.damaged == 0
    assert (tmp_path / "new" / "c").stat().st_mode & 0o777 == 0o700
    reopened.close()
    theirs.close()


def test_both_write_one_log(tmp_path: Path) -> None:
    theirs = FileLog(tmp_path / "log", segment_bytes=4096)
    ours = Log(tmp_path / "log", flags=1)
    ends = []
    for number in range(90):  # the package begins new segments meanwhile
        click = Click(f"s-{number}", number, 1_764_150_000_000 + number)
        ends.append(ours.append(click) if number % 2 else theirs.append([click]))
    assert ends == sorted(ends)
    assert len({end.partition("-")[0] for end in ends}) > 1
    assert [event.item for event in events_of(theirs)] == list(range(90))
    call("log_forget", ours.handle, b"s-7", None)
    forgotten = events_of(theirs)[-1]
    assert isinstance(forgotten, Forget)
    assert forgotten.session == "s-7"
    ours.close()
    theirs.close()


@pytest.mark.parametrize(
    ("click", "reason"),
    [
        (Click("", 1, 5), "session must be a text"),
        (Click("s" * 513, 1, 5), "more than 512"),
        (Click("s", "", 5), "item must be"),
        (Click("s", 1, 1_764_150_000), "time 1764150000 is in seconds; write it in milliseconds, 1764150000000"),
        (Click("s", 1, 1_764_150_000_000_000), "is in microseconds; write it in milliseconds, 1764150000000"),
        (Click("s", 1, 1_764_150_000_000_000_000), "is in nanoseconds; write it in milliseconds, 1764150000000"),
        (Click("s", 1, -5), "Unix milliseconds"),
        (Click("s", 1, 5, context={"a": "v" * 201}), "more than 200"),
    ],
)
def test_wrong_events_are_refused(click: Click, reason: str, tmp_path: Path) -> None:
    log = Log(tmp_path)
    with pytest.raises(CallError, match=reason) as refused:
        log.append(CLICKS[0], click)
    assert refused.value.status == USAGE
    assert str(refused.value).startswith("event 1: ")
    log.close()
    assert (tmp_path / "events-0000000000.log").read_bytes() == b""


def test_a_log_that_goes_away_is_an_error(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    (tmp_path / "log" / "events-0000000000.log").rename(tmp_path / "away")
    with pytest.raises(CallError) as refused:
        log.append(CLICKS[0])
    assert refused.value.status == LOG
    log.close()
    (tmp_path / "log" / "log.json").write_text("[]")
    with pytest.raises(CallError, match="does not describe an event log"):
        Log(tmp_path / "log")


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no further file."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_an_error_leaves_the_log_to_other_writers(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    lock = os.open(tmp_path / "log" / ".append.lock", os.O_RDWR)

    def check_free() -> None:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is held
        fcntl.flock(lock, fcntl.LOCK_UN)

    with no_more_files():
        log.append(CLICKS[0])  # needs no file but those that are open
    check_free()
    os.truncate(tmp_path / "log" / "events-0000000000.log", 64 << 20)
    with no_more_files(), pytest.raises(CallError, match="Too many open files") as refused:
        log.append(CLICKS[0])  # the next segment
    assert refused.value.status == LOG
    check_free()
    assert log.append(CLICKS[0]).startswith("0000000001-")
    (tmp_path / "log" / "events-0000000001.log").rename(tmp_path / "log" / "events-0000000007.log")
    assert log.append(CLICKS[0]).startswith("0000000007-")  # the one in use may be gone if there is a newer one
    check_free()
    os.close(lock)
    log.close()


def test_a_log_needs_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CallError, match="folder must not be empty") as refused:
        call("log_open", b"", 0, byref(c_void_p()))
    assert refused.value.status == USAGE
    Log(Path("a/b//c/")).close()
    assert (tmp_path / "a" / "b" / "c" / "log.json").exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="there is no strace")
def test_new_folders_are_flushed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.libmtaw.test_log import Log; Log(Path(sys.argv[1])).close()"
    )
    command = ["strace", "-f", "-y", "-e", "trace=fsync", sys.executable, "-c", program, str(tmp_path / "a" / "b")]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    flushed = re.findall(r"fsync\(\d+<(.*?)>\) += 0", completed.stderr)
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")} <= set(flushed)
    repeated = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    # Who created the segment may have been killed before its name was flushed.
    assert str(tmp_path / "a" / "b") in re.findall(r"fsync\(\d+<(.*?)>\) += 0", repeated.stderr)


def test_a_process_of_the_package_learns_them(tmp_path: Path) -> None:
    bundle = saved(tmp_path / "bundle", "memory")
    rec = Recommender.load(bundle, learn=tmp_path / "log")
    log = Log(tmp_path / "log")
    new = Click("s", "brand-new", 1_764_150_000_000)
    before = rec.recommend(["sku-1"], 5)
    for visit in range(6):
        position = log.append(*(Click(f"v-{visit}", item, new.time + visit) for item in ("sku-1", new.item, "sku-1")))
    assert rec.learner is not None
    rec.learner.catch_up()
    answer = rec.recommend(["sku-1"], 5)
    assert answer.log_position == position
    assert "brand-new" in rec.ids
    assert list(answer) != list(before), "what was learned is in no score"
    log.close()
    rec.close()
