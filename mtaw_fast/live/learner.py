"""The thread that keeps a recommender's knowledge at the end of its log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mtaw_fast.errors import LearnError
from mtaw_fast.live.log import EventLog
from mtaw_fast.live.state import LiveState
from mtaw_fast.ranking.catalog import Catalog

POLL_SECONDS = 0.05
PUBLISH_SECONDS = 0.3  # between two states of the catalog: clicks on known items need none
_READ_EVENTS = 2_000
_LOG = logging.getLogger("mtaw_fast.live")


class Learner:
    """Follows a log: clicks reach the rankings at once, newcomers within `PUBLISH_SECONDS`.

    Parameters
    ----------
    log : EventLog
        What to follow.
    state : LiveState
        What learns; nobody else may apply to it.
    publish : callable
        Called with the newest catalog, from the learner's thread.
    """

    def __init__(self, log: EventLog, state: LiveState, publish: Callable[[Catalog], None]) -> None:
        self._log, self.state, self._take = log, state, publish
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._turn = threading.Lock()
        self._published = 0.0
        self._known = state.ledger.position  # of what was published
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._follow, name="mtaw-learner", daemon=True)

    def start(self) -> None:
        """Learn what the log holds already, publish, then go on in a thread."""
        self.catch_up()
        self._thread.start()

    def read_ahead(self) -> None:
        """Learn up to the log's end without publishing."""
        with self._turn:
            while events := self._log.read(self.state.ledger.position, _READ_EVENTS):
                self.state.apply(events)

    def catch_up(self) -> None:
        """Learn up to the log's end and publish."""
        self.read_ahead()
        with self._turn:
            self._publish()

    def wake(self) -> None:
        """Look at the log now, and not only at the next tick."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; what is in the log by now may or may not be learned."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def position(self) -> str:
        """The log's position that rankings know of, newcomers before it included."""
        return self._known

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            try:
                self._step()
                self.failure = None
            except LearnError as error:
                if self.failure is None:  # said once, until it is over
                    _LOG.error("learning has stopped: %s", error)
                self.failure = str(error)
                self._stopped.wait(1.0)

    def _step(self) -> None:
        with self._turn:
            while not self._stopped.is_set():
                events = self._log.read(self.state.ledger.position, _READ_EVENTS)
                self.state.apply(events)
                if time.monotonic() - self._published >= PUBLISH_SECONDS:
                    self._publish()
                elif not self.state.changed:
                    self._known = self.state.ledger.position
                if len(events) < _READ_EVENTS:
                    return

    def _publish(self) -> None:
        """Let rankings know all that was learned."""
        if self.state.changed:
            self._take(self.state.newest())
            self._published = time.monotonic()
        self._known = self.state.ledger.position
