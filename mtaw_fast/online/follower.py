"""The thread that keeps a recommender's learner at the end of its log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import EventLog
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.system.fork_lock import ForkEvent, ForkLock

POLL_SECONDS = 0.05
RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 60.0
PUBLISH_SECONDS = 0.3  # between two states of the catalog
PUBLISH_SHARE = 0.1  # of the time, at most, goes into states for the sake of popularity alone
MOST_PUBLISH_SECONDS = 60.0  # one state may have cost hours, of a process that was stopped meanwhile
_READ_EVENTS = 2_000
_LOG = logging.getLogger("mtaw_fast.online")


class LogFollower:
    """Follows a log: clicks reach the rankings at once, new_items within `PUBLISH_SECONDS`.

    Parameters
    ----------
    log : EventLog
        What to follow.
    state : OnlineState
        What learns; nobody else may apply to it. Another takes its place where an error left it in doubt.
    publish : callable
        Called with the newest catalog, from the follower's thread.

    Attributes
    ----------
    failure : str | None
        Why nothing is learned at present: whatever the error, the thread tries again.
    """

    def __init__(self, log: EventLog, state: OnlineState, publish: Callable[[Catalog], None]) -> None:
        self._log, self.state, self._publish = log, state, publish
        self._stopped, self._wake = ForkEvent(), ForkEvent()
        self._turn = ForkLock()  # a child that finds a batch half learned begins again, as after an error
        self._published, self._cost = 0.0, 0.0
        self._known = state.event_processor.position  # of what was published
        self._spoiled = False
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._follow, name="mtaw-follower", daemon=True)

    def start(self) -> None:
        """Learn what the log holds already, publish, then go on in a thread.

        Where it raises, nothing was published and no thread goes on.
        """
        try:
            with self._turn:  # the thread waits: its start may fail, and what was published cannot be taken back
                try:
                    self._thread.start()
                    self._read_ahead()
                    self._publish_all()
                except BaseException:
                    self.end()  # before it has its turn
                    raise
        except BaseException:
            self.stop()
            raise

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Learn and publish nothing inside the `with`; others wait."""
        with self._turn:
            yield

    def read_ahead(self) -> None:
        """Learn up to the log's end without publishing."""
        with self._turn:
            self._read_ahead()

    def _read_ahead(self) -> None:
        while self._learn_some():
            pass

    def catch_up(self) -> None:
        """Learn up to the log's end and publish."""
        self.read_ahead()
        with self._turn:
            self._publish_all()

    def wake(self) -> None:
        """Look at the log now, and not only at the next tick."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; what is in the log by now may or may not be learned."""
        self.end()
        if self._thread.is_alive():
            self._thread.join()

    def end(self) -> None:
        """Let the thread end, without waiting for it."""
        self._stopped.set()
        self._wake.set()

    @property
    def position(self) -> str:
        """The log's position that rankings know of, new_items before it included."""
        return self._known

    def _follow(self) -> None:
        pause = RETRY_SECONDS
        while not self._stopped.is_set():
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            try:
                self._step()
                self.failure, pause = None, RETRY_SECONDS
            except Exception as error:  # whatever it is: a thread that has ended says nothing and learns nothing
                if self._stopped.is_set():
                    return
                expected = isinstance(error, LearnError)
                told = str(error) if expected else f"{type(error).__name__}: {error}"
                if self.failure is None:  # said once, until it is over
                    _LOG.error("learning has stopped, and is tried again: %s", told, exc_info=not expected)
                self.failure = told
                self._stopped.wait(pause)
                if self._spoiled:  # to begin again is work, and may fail by the same event
                    pause = min(2 * pause, MOST_RETRY_SECONDS)

    def _step(self) -> None:
        with self._turn:
            while not self._stopped.is_set():
                count = self._learn_some()
                if time.monotonic() - self._published >= self._pause():
                    self._publish_all()
                elif not self.state.changed:
                    self._known = self.state.event_processor.position
                if count < _READ_EVENTS:
                    return

    def _pause(self) -> float:
        """Seconds between the last state of the catalog and the next one."""
        if not self.state.waits:
            return PUBLISH_SECONDS
        return max(PUBLISH_SECONDS, min(self._cost / PUBLISH_SHARE, MOST_PUBLISH_SECONDS))

    def _learn_some(self) -> int:
        """Learn the next events; returns how many there were."""
        if self._spoiled:
            self._begin_again()
        events = self._log.read(self.state.event_processor.position, _READ_EVENTS)
        self._spoiled = True
        self.state.apply(events)
        self._spoiled = False
        return len(events)

    def _begin_again(self) -> None:
        """Learn what the log holds behind the model anew, where a batch was learned in part: no click counts twice."""
        state = self.state.anew()
        while events := self._log.read(state.event_processor.position, _READ_EVENTS):
            if self._stopped.is_set():  # the log may be long, and somebody waits for the thread's end
                raise LearnError("learning was ended while events were learned anew; load the bundle again")
            state.apply(events)
        self._publish_now(state)  # before it is `state`: rankings must know what `position` says
        self.state, self._spoiled = state, False

    def _publish_all(self) -> None:
        """Let rankings know all that was learned."""
        if self.state.changed:
            self._publish_now(self.state)
        self._known = self.state.event_processor.position

    def _publish_now(self, state: OnlineState) -> None:
        begin = time.monotonic()
        try:
            self._publish(state.newest())
        except BaseException:  # an interrupt too: `catch_up` is called from any thread
            state.event_processor.changed = True  # nobody has it yet
            raise
        self._published, self._known = time.monotonic(), state.event_processor.position
        self._cost = self._published - begin
