"""A thread that follows the event log and publishes what it learned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import EventLog
from mtaw_fast.online.log.events import now_ms
from mtaw_fast.online.state.item_changes import ItemChanges
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.system import host
from mtaw_fast.system.fork_lock import ForkEvent, ForkLock

POLL_SECONDS = 0.05
RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 60.0
PUBLISH_SECONDS = 0.3  # between two catalogs
PUBLISH_SHARE = 0.1  # of the time, at most, is spent on catalogs that differ in popularity alone
MAX_PUBLISH_SECONDS = 60.0  # a measured cost may be hours, if the process was stopped meanwhile
_READ_EVENTS = 2_000
_YIELD_SECONDS = 0.001
_LOG = logging.getLogger("mtaw_fast.online")


class OvertakenError(LearnError):
    """A compacted bundle has learned more than a reader, and the log up to there may be redacted."""


State = TypeVar("State", OnlineState, ItemChanges)


class LogFollower(Generic[State]):
    """Follows a log: clicks reach the rankings at once, new items within `PUBLISH_SECONDS`.

    state: what learns; nobody else may apply to it, and another takes its place after an error within a batch. publish:
    receives what `state.catalog` returns, from the follower's thread. is_behind: called with the state's position after
    a read; if it returns true, nothing is learned from it: the thread waits, and the methods raise OvertakenError.

    position: the log's, up to which rankings know every event, new items included. failure: why nothing is learned at
    present; the thread retries, whatever the error is.
    """

    def __init__(
        self,
        log: EventLog,
        state: State,
        publish: Callable[[Any], None],
        is_behind: Callable[[str], bool] | None = None,
    ) -> None:
        self._log, self._publish, self._is_behind = log, publish, is_behind
        self.state: State = state
        self._stopped, self._wake = ForkEvent(), ForkEvent()
        self._lock = ForkLock()  # a forked child that finds a batch half applied rebuilds the state, as after an error
        self._published, self._cost = 0.0, 0.0
        self.position = state.position
        self._half_applied = False
        self._waiting = 0  # calls of `catch_up`
        self._at_end = host.monotonic()  # when everything in the log was learned
        self.failure: str | None = None
        self._thread = host.loop(self._follow(), "mtaw-follower")

    def start(self) -> None:
        """Learn what the log already holds, publish, then continue in a thread.

        If it raises, nothing was published and no thread runs. It raises OvertakenError if `is_behind` says so.
        """
        try:
            with self._lock:  # the thread starts first and waits: its start may fail, and publishing cannot be undone
                try:
                    self._thread.start()
                    self._read_ahead()
                    self._publish_all()
                except BaseException:
                    self.request_stop()  # before the thread gets the lock
                    raise
        except BaseException:
            self.stop()
            raise

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Learn and publish nothing inside the `with`; other threads wait."""
        with self._lock:
            yield

    def read_ahead(self) -> None:
        """Learn up to the log's end without publishing. Raises OvertakenError if `is_behind` says so."""
        with self._lock:
            self._read_ahead()

    def _read_ahead(self) -> None:
        end = self._log.end()  # events that come meanwhile may never end
        while self._learn_next() and self.state.position < end:
            pass

    def catch_up(self) -> None:
        """Learn up to the log's end and publish. Raises OvertakenError if `is_behind` says so."""
        self._waiting += 1
        try:
            with self._lock:
                self._read_ahead()
                self._publish_all()
        finally:
            self._waiting -= 1

    def wake(self) -> None:
        """Read the log now instead of at the next poll."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; the last events of the log may or may not be learned."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join()

    def request_stop(self) -> None:
        """Tell the thread to end, without waiting for it."""
        self._stopped.set()
        self._wake.set()

    @property
    def lag(self) -> int:
        """About how many events of the log are not learned yet."""
        return self._log.lag(self.state.position)

    @property
    def lag_seconds(self) -> float:
        """Seconds for which the oldest event that is not learned has waited, about; 0 if all are learned."""
        if not self.lag:
            return 0.0
        waited = host.monotonic() - self._at_end
        arrival = self.state.arrival
        return min(waited, max(0.0, (now_ms() - arrival) / 1000)) if arrival else waited

    def _follow(self) -> host.Waits:
        pause = RETRY_SECONDS
        while not self._stopped.is_set():
            yield self._wake, POLL_SECONDS
            self._wake.clear()
            try:
                self._step()
                if self._waiting:  # let it have the lock
                    yield self._stopped, _YIELD_SECONDS
                self.failure, pause = None, RETRY_SECONDS
            except Exception as error:  # any error: if the thread ended, learning would end without a word
                if self._stopped.is_set():
                    return
                expected = isinstance(error, LearnError)
                message = str(error) if expected else f"{type(error).__name__}: {error}"
                if self.failure is None:  # logged once per outage
                    _LOG.error("learning has stopped and is retried: %s", message, exc_info=not expected)
                self.failure = message
                yield self._stopped, pause
                if self._half_applied:  # rebuilding is expensive and may fail at the same event
                    pause = min(2 * pause, MAX_RETRY_SECONDS)

    def _step(self) -> None:
        with self._lock:
            while not self._stopped.is_set():
                try:
                    count = self._learn_next()
                except OvertakenError:
                    count = 0  # another state is about to take this one's place
                if host.monotonic() - self._published >= self._pause():
                    self._publish_all()
                elif not self.state.changed:
                    self.position = self.state.position
                if count < _READ_EVENTS or self._waiting:
                    return

    def _pause(self) -> float:
        """Return the seconds between the last catalog and the next one."""
        if not self.state.can_wait:
            return PUBLISH_SECONDS
        return max(PUBLISH_SECONDS, min(self._cost / PUBLISH_SHARE, MAX_PUBLISH_SECONDS))

    def _learn_next(self) -> int:
        """Learn the next events; return how many."""
        if self._half_applied:
            self._rebuild()
        events = self._log.read(self.state.position, _READ_EVENTS)
        # After the read: what was read before the bundle was written is not redacted.
        if events and self._is_behind is not None and self._is_behind(self.state.position):
            raise OvertakenError("a compacted bundle was written while the log was read; load again")
        self._half_applied = True
        self.state.apply(events)
        self._half_applied = False
        if len(events) < _READ_EVENTS:
            self._at_end = host.monotonic()
        return len(events)

    def _rebuild(self) -> None:
        """Replay the log after the model's position into a new state: no click of a failed batch may count twice."""
        state = self.state.restarted()
        while events := self._log.read(state.position, _READ_EVENTS):
            if self._stopped.is_set():  # the log may be long, and `stop` waits for the thread
                raise LearnError("learning was stopped while the log was replayed; load the bundle again")
            state.apply(events)
        self._publish_now(state)  # before it becomes `state`: rankings must know what `position` says
        self.state, self._half_applied = state, False

    def _publish_all(self) -> None:
        """Publish everything that was learned."""
        if self.state.changed:
            self._publish_now(self.state)
        self.position = self.state.position

    def _publish_now(self, state: State) -> None:
        begin = host.monotonic()
        try:
            self._publish(state.catalog())
        except BaseException:  # an interrupt too: any thread may call `catch_up`
            state.republish()
            raise
        self._published, self.position = host.monotonic(), state.position
        self._cost = self._published - begin
