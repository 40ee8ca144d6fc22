"""No error ends learning: a failure is logged once, reported, and retried."""

from __future__ import annotations

import errno
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import LearnError
from mtaw_fast.online import follower
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.follower import MAX_PUBLISH_SECONDS, PUBLISH_SECONDS, PUBLISH_SHARE
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import Click, now_ms
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from tests.support.forks import child
from tests.support.online.recommenders import MODEL, NOON, answers, drawn, until_learned
from tests.support.service.running import eventually

pytestmark = pytest.mark.slow

Make = Callable[..., Recommender]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "RETRY_SECONDS", 0.05)


@contextmanager
def no_handles() -> Iterator[None]:
    """Make opening files fail; open files stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def stopped(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("learning has stopped")]


def counted(rec: Recommender) -> int:
    return int(rec.learner.state.event_processor.items.clicks.sum() - MODEL.popularity.sum())


def test_without_file_handles_learning_stops_logs_it_once_and_resumes(
    learning: Make, caplog: pytest.LogCaptureFixture
) -> None:
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1"]))
    with no_handles():
        position = rec.observe("t", ["sku-2", "sku-3"])
        eventually(lambda: rec.learner.follower.failure is not None, 5)
        assert "open files" in str(rec.learner.follower.failure)
        before = answers(rec, drawn(1, 5))
        rec.learner.follower._stopped.wait(0.3)  # several tries
        assert answers(rec, drawn(1, 5)) == before, "rankings need no log"
    until_learned(rec, position)
    eventually(lambda: rec.learner.follower.failure is None, 5)
    assert len(stopped(caplog)) == 1
    assert counted(rec) == 3


def test_an_event_that_always_fails_is_retried_with_growing_pauses(
    learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rec = learning()
    tries: list[None] = []

    def failing(self: OnlineState, *clicks: Any) -> None:
        tries.append(None)
        raise ValueError("never")

    with monkeypatch.context() as patched:
        patched.setattr(OnlineState, "click", failing)
        position = rec.observe("s", ["sku-1"])
        eventually(lambda: len(tries) >= 3, 10)
        rec.learner.follower._stopped.wait(0.7)  # after 0.05, 0.1, 0.2, 0.4, .. seconds
        assert len(tries) <= 7
        assert rec.learner.follower.failure == "ValueError: never"
    until_learned(rec, position)
    assert counted(rec) == 1


def test_a_catalog_that_could_not_be_published_is_published_later(learning: Make) -> None:
    rec = learning()
    real, failures = rec.learner.follower._publish, [OSError(errno.EMFILE, "Too many open files"), MemoryError()]

    def publish(catalog: Any) -> None:
        if failures:
            raise failures.pop()
        real(catalog)

    rec.learner.follower._publish = publish
    rec.observe("s", ["sku-1", "new-item"])
    eventually(lambda: "new-item" in rec.recommend(["sku-1"], k=100).items, 10)
    assert not failures


def test_a_folder_that_cannot_be_listed_is_no_empty_log(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    log.append([Click("s", 1, 1)])
    with no_handles(), pytest.raises(LearnError, match=f"cannot read {tmp_path}"):
        log.read(START)
    with no_handles(), pytest.raises(LearnError, match=f"cannot shorten {tmp_path}"):
        log.expire("0000000001-000000000000", 0)


def test_a_rebuilt_state_keeps_every_internal_id_and_counts_no_click_twice(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the first click on an item was redacted meanwhile; and no click of the failed batch counts twice."""
    rec = learning(limits=LearningLimits(min_clicks=2))
    rec.learner._stopped.set()  # no switch to the compacted bundle
    rec.learner._watcher.join()
    for number, item in enumerate(("second", "second", "shy", "gone", "gone")):
        rec.observe("secret", ["first"])
        rec.observe(f"other-{number}", [item])
    rec.add_items(["by-hand"], neighbors=[["sku-7"]])
    rec.remove_items(["gone"])
    rec.forget("secret")
    rec.learner.catch_up()
    before = list(rec.ids)
    visit, prepared = rec.session(["second"], id="v"), rec.filter(exclude=["second"])
    compact_folder(folder, rec.learner.settings)
    hits, real, old = list[None](), OnlineState.click, rec.learner.state

    def failing(self: OnlineState, *clicks: Any) -> None:
        real(self, *clicks)
        if self is old:  # until another state takes its place
            hits.append(None)
            if len(hits) >= 2:
                raise RuntimeError("a step in the middle of a batch failed")

    monkeypatch.setattr(OnlineState, "click", failing)
    now = now_ms()
    batch = [Click(f"x{n // 4}", f"sku-{n % 40}" if n % 9 else "third", now) for n in range(100)]
    clicks = int(old.event_processor.items.clicks.sum())
    until_learned(rec, rec.learner.append(batch))
    assert len(hits) >= 2
    assert rec.learner.state is not old
    assert stopped(caplog) == [
        "learning has stopped and is retried: RuntimeError: a step in the middle of a batch failed"
    ]
    assert int(rec.learner.state.event_processor.items.clicks.sum()) == clicks + 100
    assert list(rec.ids) == [*before, "third"]
    assert visit.clicks == ["second"]
    items = rec.recommend(["sku-1"], k=100, filter=prepared).items
    assert "second" not in items
    assert "by-hand" in items
    assert not {"shy", "gone"} & set(items), "a removed item is back"
    until_learned(rec, rec.observe("y", ["shy"]))
    assert "shy" in rec.recommend(["sku-1"], k=100).items


def after_sessions(learning: Make, sessions: int) -> Recommender:
    """Return a recommender that has learned so many sessions of one click."""
    rec = learning()
    until_learned(rec, [rec.observe(f"s{n}", ["sku-1"]) for n in range(sessions)][-1])
    return rec


def test_closing_does_not_wait_for_a_rebuild(
    learning: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rec = after_sessions(learning, 20)
    log_follower, old, apply = rec.learner.follower, rec.learner.state, OnlineState.apply
    replayed: list[int] = []

    def recording(self: OnlineState, events: Any) -> None:
        if self is not old:
            replayed.append(len(events))
            log_follower.request_stop()  # as closing does
        elif events:
            raise MemoryError("for a moment")
        apply(self, events)

    monkeypatch.setattr(follower, "_READ_EVENTS", 1)
    monkeypatch.setattr(OnlineState, "apply", recording)
    rec.observe("t", ["sku-1"])
    eventually(lambda: not log_follower._thread.is_alive(), 10)
    assert replayed == [1]
    assert rec.learner.state is old
    assert len(stopped(caplog)) == 1, "closing is logged as a failure"
    with pytest.raises(LearnError, match="learning was stopped while the log was replayed"):
        log_follower.catch_up()


def test_a_forked_child_finds_no_lock_held(learning: Make) -> None:
    """Locks that other threads of the parent held are free in the child."""
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1"]))
    with rec.learner._following, rec.learner.follower.paused():
        assert child(rec.learner.catch_up) == 0


@pytest.mark.parametrize("place", ["_wake", "_stopped", "of learner"])
def test_a_forked_child_observes_and_closes_whatever_event_a_thread_was_at(learning: Make, place: str) -> None:
    rec = learning()
    event = rec.learner._stopped if place == "of learner" else getattr(rec.learner.follower, place)

    def work() -> None:
        rec.observe("s", ["sku-1"])
        rec.close()

    with event._event._cond:  # as a thread holds it for a moment that waits or sets
        assert child(work) == 0
    until_learned(rec, rec.observe("t", ["sku-1"]))


def test_an_interrupt_while_a_state_is_published_loses_no_item(learning: Make) -> None:
    rec = learning()
    log_follower, real = rec.learner.follower, rec.learner.follower._publish

    def interrupted(catalog: object) -> None:
        log_follower._publish = real
        raise KeyboardInterrupt

    with log_follower.paused():
        position = rec.observe("s", ["newest"])
        log_follower._publish = interrupted
        log_follower._read_ahead()
        with pytest.raises(KeyboardInterrupt):
            log_follower._publish_all()
    until_learned(rec, position)
    assert "newest" in rec.ids


def test_catching_up_ends_although_events_keep_coming(learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rec = learning()
    monkeypatch.setattr(follower, "_READ_EVENTS", 2)
    real = FileLog.read

    def read(log: FileLog, after: str, limit: int = 10_000) -> list[LogEntry]:
        log.append([Click("other", f"sku-{n}", NOON) for n in range(3)])  # more than is read
        return real(log, after, limit)

    monkeypatch.setattr(FileLog, "read", read)
    caught_up = threading.Thread(target=rec.learner.catch_up, daemon=True)
    caught_up.start()
    caught_up.join(10)
    ended = not caught_up.is_alive()
    monkeypatch.undo()
    assert ended, "catching up waits for events that came after it began"


# A ranking by popularity includes every event up to its `log_position`


def test_a_position_is_reported_once_popularity_includes_it(learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "PUBLISH_SECONDS", 1e9)
    rec = learning()
    before = rec.log_position
    position = rec.learner.append([Click("s", "sku-1", NOON)])
    eventually(lambda: rec.learner.state.position >= position, 10)
    rec.learner.follower.stop()
    assert rec.log_position == before
    rec.learner.catch_up()
    assert rec.log_position == position


def test_a_costly_catalog_is_published_rarely(learning: Make) -> None:
    rec = learning()
    log_follower = rec.learner.follower
    log_follower.stop()
    publish = log_follower._publish

    def costly(catalog: object) -> None:
        time.sleep(0.2)
        publish(catalog)

    log_follower._publish = costly
    rec.learner.append([Click("s", "sku-1", NOON)], wait=True)
    assert log_follower._pause() >= 0.2 / PUBLISH_SHARE > PUBLISH_SECONDS
    log_follower._cost = 3600.0  # the process was stopped for an hour
    assert log_follower._pause() == MAX_PUBLISH_SECONDS
    rec.observe("t", ["newest"])
    log_follower.read_ahead()
    assert log_follower._pause() == PUBLISH_SECONDS, "a new item does not wait"
