"""Every reader of a log knows the same, however it reads and whenever it starts (`tests.online.readers`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.state.log_clock import LogClock
from mtaw_fast.online.state.session_tracker import SessionTracker, event_key
from tests.online.readers import LOGS, Log, check

CLICK, EARLY = 0, 17  # of `readers.KINDS`


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(LOGS)
def test_what_a_reader_knows_follows_from_the_log_alone(log: Log) -> None:
    """`make slow` reads 100,000 logs."""
    check(log)


def test_ids_of_the_training_marked_ahead_of_their_place_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A click, and the same session and id with a time of the training, read one by one and both at once."""
    real = SessionTracker.batches

    def marked_first(tracker: SessionTracker, clicks: Iterable[Click]) -> Iterator[Any]:
        clicks, since = list(clicks), tracker._since or 0
        tracker.remember(event_key(click.session, click.id) for click in clicks if click.id and click.time <= since)
        return real(tracker, clicks)

    log = Log(0, 0, [(CLICK, 0, 0, 2, 0, 0), (EARLY, 0, 0, 2, 0, 0)], [], [[1], [2]])
    check(log)
    monkeypatch.setattr(SessionTracker, "batches", marked_first)
    with pytest.raises(AssertionError, match="readers 0 and 1"):
        check(log)


def test_a_clock_that_a_bundle_does_not_store_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(0, 0, [(CLICK, 0, 0, 0, 0, 0), (CLICK, 1, 0, 0, 8, 0), (CLICK, 2, 0, 0, 0, 0)], [2], [[1], [2]])
    check(log)
    real = LogClock.state
    monkeypatch.setattr(LogClock, "state", lambda clock: real(clock) | {"ahead": 0})
    with pytest.raises(AssertionError, match="compacted at 2 on the way and not"):
        check(log)
