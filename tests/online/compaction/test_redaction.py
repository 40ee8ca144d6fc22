"""The clicks of a forgotten session leave the log, even after an interrupted compaction; later clicks stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import LearnError
from mtaw_fast.online.compaction import compactor, redaction
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import START, EventLog
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.segment import redact_clicks
from mtaw_fast.online.settings import LearningSettings
from tests.support.online.file_logs import raises
from tests.support.online.recommenders import NOON
from tests.support.redis_server import redis as redis

SEGMENT = "events-0000000000.log"


@pytest.fixture(params=["file", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> LearningSettings:
    """Settings with an empty log, of each kind."""
    stream = None if request.param == "file" else f"{request.getfixturevalue('redis').url}?stream=redaction"
    return LearningSettings(tmp_path / "learned", stream=stream, compact=False)


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


@pytest.mark.parametrize("place", ["before", "within", "after"])
def test_an_interrupted_redaction_is_finished_by_the_next_compaction(
    folder: Path, settings: LearningSettings, log: EventLog, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    owner, name = {
        "before": (compactor, "redact_forgotten"), "within": (type(log), "redact"),
        "after": (redaction, "write_json"),
    }[place]  # fmt: skip
    log.append([OTHER, *FIRST])
    log.append([ASKED])
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, raises(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            compact_folder(folder, settings)
    position = log.append([click("other", 6)])
    written = compact_folder(folder, settings)
    assert written is not None
    compacted = Bundle.load(written)
    assert compacted.model.log_progress.position == position, "the first compaction did not save its bundle"
    assert left(log) == [OTHER, ASKED, click("other", 6)]
    assert log.damaged == 0


def test_clicks_after_the_last_request_stay_and_only_events_since_it_are_checked(
    folder: Path, settings: LearningSettings, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([*FIRST, ASKED, LATER, ASKED, OTHER, Forget("other", NOON), LATER, click("other", 8)])
    compact_folder(folder, settings)
    assert left(log) == [ASKED, ASKED, Forget("other", NOON), LATER, click("other", 8)]
    assert (settings.folder / redaction.MARK).stat().st_mode & 0o777 == 0o600
    log.append([Forget("secret", NOON + 6000), OTHER, click("secret", 7)])
    compact_folder(folder, settings)
    assert left(log)[2:] == [
        Forget("other", NOON), click("other", 8), Forget("secret", NOON + 6000), OTHER, click("secret", 7)
    ]  # fmt: skip
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


def test_a_segment_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = FileLog(tmp_path)
    position = log.append([FIRST[0], ASKED])
    path = tmp_path / SEGMENT
    with pytest.raises(FileNotFoundError):
        redact_clicks(tmp_path / "none", {})
    real = Path.open

    def read_only(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if "+" in mode:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, mode, *arguments, **named)

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(LearnError, match=f"cannot redact {path}: Permission denied; check the disk, the permissions"):
        log.redact({"secret": position})
