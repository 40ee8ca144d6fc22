"""The clicks of a forgotten session leave the log, even after an interrupted compaction; later clicks stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.online.compaction import compactor, redaction
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import START, EventLog
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.segment import record_of, redact_clicks
from mtaw_fast.online.settings import LearningSettings
from tests.support.online.recommenders import NOON
from tests.support.redis_server import Redis

SEGMENT = "events-0000000000.log"


@pytest.fixture(params=["file", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LearningSettings]:
    """Settings with an empty log, of each kind."""
    if request.param == "file":
        yield LearningSettings(tmp_path / "learned", compact=False)
        return
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    pytest.importorskip("redis", reason="needs the extra 'serve'")
    server = Redis(tmp_path)
    yield LearningSettings(tmp_path / "learned", stream=f"{server.url}?stream=redaction", compact=False)
    server.stop()


@pytest.fixture
def log(settings: LearningSettings) -> Iterator[EventLog]:
    event_log = open_log(settings)
    yield event_log
    event_log.close()


def click(session: str, number: int) -> Click:
    return Click(session, f"sku-{number}", NOON + 1000 * number)


def left(log: EventLog) -> list[Event]:
    return [entry.event for entry in log.read(START)]


OTHER, FIRST, LATER = click("other", 1), [click("secret", n) for n in (2, 3)], click("secret", 5)
ASKED = Forget("secret", NOON + 4000)


def killed(*arguments: Any, **named: Any) -> None:
    raise KeyboardInterrupt


def failing(*arguments: Any, **named: Any) -> None:
    raise LearnError("the disk failed")


@pytest.mark.parametrize("ending", [killed, failing])
@pytest.mark.parametrize("place", ["before", "within", "after"])
def test_an_interrupted_redaction_is_finished_by_the_next_compaction(
    folder: Path,
    settings: LearningSettings,
    log: EventLog,
    monkeypatch: pytest.MonkeyPatch,
    ending: Callable[..., None],
    place: str,
) -> None:
    log.append([OTHER, *FIRST])
    log.append([ASKED])
    with monkeypatch.context() as patched:
        if place == "before":
            patched.setattr(compactor, "redact_forgotten", ending)
        elif place == "within":
            patched.setattr(type(log), "redact", ending)
        else:
            patched.setattr(redaction, "write_private", ending)
        with pytest.raises((KeyboardInterrupt, MtawError)):
            compact_folder(folder, settings)
    position = log.append([click("other", 6)])
    written = compact_folder(folder, settings)
    assert written is not None
    compacted = Bundle.load(written)
    assert compacted.model.log_progress.position == position, "the first compaction did not save its bundle"
    assert left(log) == [OTHER, ASKED, click("other", 6)]
    assert log.damaged == 0


def test_clicks_after_the_last_request_stay(folder: Path, settings: LearningSettings, log: EventLog) -> None:
    later_request = Forget("secret", NOON + 6000)
    log.append([*FIRST, ASKED, LATER])
    compact_folder(folder, settings)
    assert left(log) == [ASKED, LATER]
    log.append([later_request, OTHER, click("secret", 7)])
    compact_folder(folder, settings)
    assert left(log) == [ASKED, later_request, OTHER, click("secret", 7)]


def test_only_its_owner_reads_how_far_redaction_is_done(
    folder: Path, settings: LearningSettings, log: EventLog
) -> None:
    log.append([*FIRST, ASKED])
    compact_folder(folder, settings)
    assert (settings.folder / redaction.MARK).stat().st_mode & 0o777 == 0o600


def test_every_request_of_one_compaction_counts(folder: Path, settings: LearningSettings, log: EventLog) -> None:
    log.append([*FIRST, ASKED, LATER, ASKED, OTHER, Forget("other", NOON), LATER, click("other", 8)])
    compact_folder(folder, settings)
    assert left(log) == [ASKED, ASKED, Forget("other", NOON), LATER, click("other", 8)]


def test_only_events_since_the_last_redaction_are_checked(
    folder: Path, settings: LearningSettings, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([*FIRST, ASKED])
    compact_folder(folder, settings)
    log.append([OTHER])
    redactions: list[dict[str, str]] = []
    monkeypatch.setattr(type(log), "redact", lambda self, forgotten: redactions.append(dict(forgotten)) or 0)
    compact_folder(folder, settings)
    assert redactions == [{}]


@pytest.mark.parametrize(
    "mark", ["", "[]", "{", '{"log": "another", "position": "9"}', '{"log": 5, "position": 5}'], ids=range(5)
)
def test_without_a_valid_mark_the_whole_log_is_redacted(
    folder: Path, settings: LearningSettings, log: EventLog, mark: str
) -> None:
    log.append([*FIRST, ASKED, LATER])
    settings.folder.mkdir(exist_ok=True)
    (settings.folder / redaction.MARK).write_text(mark)
    compact_folder(folder, settings)
    assert left(log) == [ASKED, LATER]


def test_an_empty_session_id_takes_nothing_else_along(log: EventLog) -> None:
    events: list[Event] = [OTHER, AddItems(("new",), None, None, 5), ASKED]
    log.append(events)
    position = log.append([Forget("", 6)])
    assert log.redact({"": position}) == 0
    assert left(log) == [*events, Forget("", 6)]


def test_a_click_that_was_half_overwritten_is_overwritten_whole(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.append([OTHER, FIRST[0], FIRST[1]])
    position = log.append([ASKED])
    path = tmp_path / SEGMENT
    data = path.read_bytes()
    begin = data.index(b"\n", data.index(b"other")) + 1
    path.write_bytes(data[:begin] + b" " * 20 + data[begin + 20 :])
    assert log.redact({"secret": position}) == 2
    assert path.read_bytes().count(b"secret") == 1
    assert left(log) == [OTHER, ASKED]
    assert log.damaged == 0
    log.close()


def test_a_click_whose_tail_alone_was_overwritten_is_overwritten_whole(tmp_path: Path) -> None:
    """If a record spans two pages, only the second may reach the disk."""
    log = FileLog(tmp_path)
    log.append([OTHER, FIRST[0]])
    position = log.append([ASKED])
    path = tmp_path / SEGMENT
    data = path.read_bytes()
    begin = data.index(b'"time"', data.index(b"secret"))
    end = data.index(b"\n", begin)
    path.write_bytes(data[:begin] + b" " * (end - begin) + data[end:])
    assert log.redact({"secret": position}) == 1
    assert path.read_bytes().count(b"secret") == 1
    assert left(log) == [OTHER, ASKED]
    assert log.damaged == 0
    log.close()


@pytest.mark.parametrize("segment_bytes", [1, 64 << 20], ids=["sealed", "open"])
def test_half_a_click_that_was_refused_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_bytes: int
) -> None:
    log = FileLog(tmp_path, segment_bytes=segment_bytes)
    log.append([OTHER])
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda file, data: write(file, data[:60]))
        with pytest.raises(LearnError, match="is full"):
            log.append([FIRST[0]])
    log.append([FIRST[0]])
    position = log.append([ASKED])
    assert log.redact({"secret": position}) == 2
    assert sum(path.read_bytes().count(b"secret") for path in tmp_path.glob("events-*.log")) == 1
    assert left(log) == [OTHER, ASKED]
    log.close()


def test_damage_after_the_last_request_stays_for_the_next(tmp_path: Path) -> None:
    """Half a record there may belong to an append that is still running."""
    log = FileLog(tmp_path)
    position = log.append([FIRST[0], ASKED])
    with (tmp_path / SEGMENT).open("ab") as file:
        file.write(b"00000000 half")
    assert log.redact({"secret": position}) == 1
    assert (tmp_path / SEGMENT).read_bytes().endswith(b"00000000 half")
    log.close()


def test_records_of_a_kind_that_a_later_release_knows_stay(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    record = record_of(b'{"later": 1, "time": 5}')
    (tmp_path / SEGMENT).write_bytes(record)
    position = log.append([FIRST[0], ASKED])
    assert log.redact({"secret": position}) == 1
    assert (tmp_path / SEGMENT).read_bytes().startswith(record)
    log.close()


def test_a_segment_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    position = log.append([FIRST[0], ASKED])
    path = tmp_path / SEGMENT
    with pytest.raises(FileNotFoundError):
        redact_clicks(tmp_path / "none", {}, str)
    real = Path.open

    def read_only(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if "+" in mode:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(LearnError, match=f"cannot redact {path}: Permission denied; check the disk, the permissions"):
        log.redact({"secret": position})
    log.close()
