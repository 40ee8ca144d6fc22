"""What a recommender knows beyond its bundle: a log, the state that follows it, and the bundle that it grows into.

A folder to learn in holds

    log.json, events-*.log      the log (`online.log.file_log`)
    bundle/                     the model with what was learned so far taken in, made by `online.compaction.compactor`

Any number of processes share it. Each follows the log by itself; one at a time takes what was learned into `bundle`.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import model_hash
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.errors import DataError, LearnError, MtawError, shown
from mtaw_fast.online.compaction.compactor import UNTIDY, start_compactor
from mtaw_fast.online.compaction.current import (
    GROWN,
    Signature,
    current_bundle,
    position_in,
    signature_of,
    trained_until,
)
from mtaw_fast.online.compaction.redaction import is_redacted
from mtaw_fast.online.follower import LogFollower
from mtaw_fast.online.log.event_log import EventLog
from mtaw_fast.online.log.events import MOST_TEXT, AddItems, Event, RemoveItems, checked_click, forget_of, is_id, now_ms
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.catalog import Catalog, plain_id
from mtaw_fast.system.fork_lock import ForkEvent, ForkLock

RETRY_SECONDS, MOST_RETRY_SECONDS = 1.0, 600.0  # of taking over a bundle: it is read and verified as a whole
_LOOK_SECONDS = 0.5
_LEAST_SECONDS = 60.0  # between two compactions
_LOG = logging.getLogger("mtaw_fast.online")


class OnlineLearner:
    """Follows a log for one recommender.

    Parameters
    ----------
    folder : path
        The bundle that a training made.
    bundle : Bundle
        What `current_bundle` found; it has a session memory.
    seen : Signature
        `signature_of` the folder to learn in before that: what is put there meanwhile is taken over.
    log : EventLog
        Where events are kept; `stop` closes it.
    settings : LearningSettings
        Where and how much is learned.
    prepare : callable
        Called with a bundle before it is followed; gives what is called with the newest state of its catalog whenever
        there is one, from a thread of this object.
    verify : bool
        Whether bundles are checked when they are loaded.

    Raises
    ------
    LearnError
        Where the log cannot be read, or the bundle has learned from another one. No thread is left then, and the log is
        open still.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        bundle: Bundle,
        seen: Signature,
        log: EventLog,
        settings: LearningSettings,
        prepare: Callable[[Bundle], Callable[[Catalog], None]],
        verify: bool,
    ) -> None:
        self._folder, self.log, self.settings, self._verify = folder, log, settings, verify
        self._prepare = prepare
        self._failure: _Failure | None = None  # of taking over what was grown
        self._stopped = ForkEvent()
        self._compactor: subprocess.Popen[bytes] | None = None
        self._asked = time.monotonic()
        self._served = seen
        self._following = ForkLock()
        self.bundle = bundle
        self._trained = _training_of(bundle.manifest)
        self.follower = self._new_follower(bundle)
        self.follower.start()
        self._watch = threading.Thread(target=self._look_for_ever, name="mtaw-learner", daemon=True)
        try:
            self._watch.start()
        except BaseException:
            self.follower.stop()
            raise

    def _new_follower(self, bundle: Bundle) -> LogFollower:
        position_in(bundle, self.log)  # raises where it means nothing there
        state = OnlineState(bundle.model, self.settings.limits, trained_until(bundle))
        return LogFollower(self.log, state, self._prepare(bundle))

    @property
    def state(self) -> OnlineState:
        """What was learned so far."""
        return self.follower.state

    @property
    def position(self) -> str:
        """The log's position up to which rankings know every event."""
        return self.follower.position

    def observe(
        self,
        session: str,
        items: Sequence[Any],
        at: int | Sequence[int] | None = None,
        types: Sequence[str | None] | None = None,
        ids: Sequence[str | None] | None = None,
    ) -> str:
        """Keep clicks; see `Recommender.observe`."""
        count = len(items)
        now = now_ms()
        times = [now] * count if at is None else [at] * count if isinstance(at, int) else list(at)
        kinds, names = list(types or [None] * count), list(ids or [None] * count)
        if not len(times) == len(kinds) == len(names) == count:
            raise DataError(f"observe: {count} items, {len(times)} times, {len(kinds)} types, {len(names)} ids differ")
        return self.append(
            [
                checked_click(session, *values, where=f"observe, click {place}")
                for place, values in enumerate(zip(items, times, kinds, names, strict=True))
            ]
        )

    def forget(self, session: str) -> str:
        """Take out what a session taught; see `Recommender.forget`."""
        return self.append([forget_of(session, now_ms())])

    def add_items(
        self,
        catalog: Catalog,
        items: Sequence[Any],
        vectors: np.ndarray | None,
        neighbors: Sequence[Sequence[Any]] | None,
    ) -> None:
        """Keep and learn items that come by hand; arguments and errors as `Recommender.add_items`.

        catalog: the newest, after `catch_up`.
        """
        catalog.with_items(items, vectors, neighbors)  # raises where they do not fit
        added = tuple(plain_id(item) for item in items)
        for item in added:
            if not is_id(item):
                raise DataError(
                    f"item {shown(item)} cannot be added: an id is a text of 1 to {MOST_TEXT} characters, or a whole "
                    "number of 64 bits; give it another one"
                )
        self._check_room(catalog, items)
        given = None if vectors is None else tuple(tuple(row) for row in np.asarray(vectors, dtype=np.float64).tolist())
        near = None if neighbors is None else tuple(tuple(_plain(one) for one in row) for row in neighbors)
        self.append([AddItems(added, near, given, now_ms())], wait=True)
        self._check_added(added)

    def _check_added(self, items: Sequence[int | str]) -> None:
        """Raise DataError where the log's rules left items out, whatever was so before they were kept."""
        missing = [items[at] for at in np.flatnonzero(self.state.event_processor.places_of(items) < 0).tolist()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(items)} items did not enter the catalog, {shown(missing[0])} among them: "
                f"others came first, up to the limit new_items of {self.settings.limits.new_items:,}; compact, or "
                "raise it"
            )

    def _check_room(self, catalog: Catalog, items: Sequence[Any]) -> None:
        """Raise DataError where items would find the catalog full: by the log's rules they would not enter it."""
        most, there = self.settings.limits.new_items, len(self.state.event_processor.new_items)
        unknown = catalog.ids.lookup(items) < 0
        known = self.state.event_processor.new_items.known
        new = sum(known(_plain(items[at])) is None for at in np.flatnonzero(unknown).tolist())
        if there + new > most:
            raise DataError(
                f"{new} more items would be {there + new:,} new ones since the bundle, and the limit new_items is "
                f"{most:,}; compact first, or raise it"
            )

    def remove_items(self, catalog: Catalog, items: Sequence[Any]) -> None:
        """Keep and learn that items went; errors as `Recommender.remove_items`. catalog: as for `add_items`."""
        catalog.without_items(items)
        self.append([RemoveItems(tuple(_plain(item) for item in items), now_ms())], wait=True)

    def append(self, events: Sequence[Event], wait: bool = False) -> str:
        """Keep events; returns the position after them. wait: until they are learned here.

        A click cannot lie ahead: one whose time does, by the clock here, is kept as of now.
        """
        if not events:
            return self.position
        now = now_ms()
        position = self.log.append([_by_now(event, now) for event in events])
        if wait:
            self.catch_up()
        else:
            self.follower.wake()
        return position

    def catch_up(self) -> None:
        """Learn and publish all that the log holds now, by whichever process it was kept."""
        with self._following:  # else a follower that `_switch` has ended publishes its old bundle over the new one
            self.follower.catch_up()

    def stop(self) -> None:
        """End all threads; a compaction under way is left to end by itself."""
        self._stopped.set()
        self.follower.end()  # which may learn long anew, and the other thread wait for it to take over a bundle
        self._watch.join()
        self.follower.stop()
        self.log.close()

    def _look_for_ever(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            signature, failure = signature_of(self.settings.folder), self._failure  # once: `compact` takes it away
            if signature != self._served and (failure is None or failure.is_over(signature)):
                self._try_to_switch(signature)
                continue
            try:
                if self._is_due():
                    self.compact()
            except Exception as error:  # what serves goes on, and so does this thread
                self._asked = time.monotonic()  # it may be the disk, which would be told of at every look
                _LOG.error("what was learned could not be compacted: %s", error, exc_info=_is_unforeseen(error))

    def _try_to_switch(self, signature: Signature) -> None:
        """`_switch`; where it fails the old bundle goes on, and it is tried again, ever less often."""
        try:
            self._switch()
            self._served, self._failure = signature, None
        except Exception as error:
            before, told = self._failure, f"what was learned could not be taken over: {error}"
            if before is None or (before.signature, before.told) != (signature, told):  # said once, until it is over
                _LOG.error(told, exc_info=_is_unforeseen(error))
            self._failure = _Failure.after(before, signature, told)

    def _switch(self) -> None:
        """Go on from a newly grown bundle; the old state answers until the new one is near the log's end.

        Of this training alone: in another one an internal id, which sessions and filters hold, is another item's.
        """
        if _training_of(read_manifest(Path(self._folder))) != self._trained:
            raise self._is_of_another_training()  # before all of it is read
        fresh = current_bundle(self._folder, self.settings.folder, self._verify)
        if fresh.manifest == self.bundle.manifest:
            return
        if _training_of(fresh.manifest) != self._trained:
            raise self._is_of_another_training()
        if "grown_from" in self.bundle.manifest and "grown_from" not in fresh.manifest:
            raise LearnError(
                f"{self.settings.folder / GROWN} is missing or damaged; what it held is served on, and is gone with "
                "this process but for what the log holds: restore the folder"
            )
        old, follower = self.follower, self._new_follower(fresh)
        follower.read_ahead()
        with self._following:
            with old.paused():  # it goes on where the new one does not start
                follower.read_ahead()
                _check_places(old.state, follower.state)
                follower.start()
                self.bundle, self.follower = fresh, follower
                old.end()
            old.stop()

    def _is_of_another_training(self) -> LearnError:
        return LearnError(f"{self._folder} holds another training now; load it again to serve it and to learn on")

    def _is_due(self) -> bool:
        running = self._compactor is not None and self._compactor.poll() is None
        if running or not self.settings.compact:
            return False
        waited = time.monotonic() - self._asked
        event_processor, known = self.state.event_processor, position_in(self.bundle, self.log)
        # Not by clicks: those of sessions that were carried along are no news, and a request to forget is none.
        news = event_processor.position > known
        if news and event_processor.learned_clicks >= self.settings.compact_clicks:
            return waited >= _LEAST_SECONDS  # where most sessions are still open, another compaction gains little
        if waited < self.settings.compact_seconds:
            return False
        return news or not is_redacted(self.log, self.settings.folder, known)

    def compact(self, wait: bool = False) -> None:
        """Take what was learned into the grown bundle, in a process of its own.

        Parameters
        ----------
        wait : bool, default False
            Whether to return only when this recommender serves the result.

        Raises
        ------
        LearnError
            Where the bundle's folder holds another training by now, or, if waited for, where it failed: the log has all
            that it would have taken in. Or where the result is served, and the log still holds what it need not. Or
            where `stop` is called meanwhile.
        """
        self._asked, self._failure = time.monotonic(), None
        if _training_of(read_manifest(Path(self._folder))) != self._trained:
            raise self._is_of_another_training()
        self._compactor = process = start_compactor(self._folder, self.settings, wait=wait)
        if wait:
            self._until_served(process)

    def _until_served(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a compactor ends and what it made is served; see `compact`."""
        while (code := process.poll()) is None:
            self._wait_a_little()
        if code not in (0, UNTIDY):
            raise LearnError(f"what was learned in {self.settings.folder} was not taken in; its message is above")
        while (signature := signature_of(self.settings.folder)) != self._served:
            failure = self._failure
            if failure is not None and failure.signature == signature:
                raise LearnError(failure.told)
            self._wait_a_little()
        if code == UNTIDY:
            raise LearnError(
                f"what was learned in {self.settings.folder} is served, but its log still holds what was forgotten or "
                "is past its size; the next compaction tries again, and the message is above"
            )

    def _wait_a_little(self) -> None:
        # A child of a fork has no thread that would serve it.
        if self._stopped.wait(_LOOK_SECONDS / 10) or not self._watch.is_alive():
            raise LearnError(f"the learning in {self.settings.folder} was ended before its compaction was served")


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a bundle could not be taken over.

    signature: of the bundle. pause: seconds until it is tried again. until: when, by the monotonic clock.
    """

    signature: Signature
    told: str
    pause: float
    until: float

    @classmethod
    def after(cls, before: _Failure | None, signature: Signature, told: str) -> _Failure:
        """The next one; another bundle has its own count."""
        pause = RETRY_SECONDS
        if before is not None and before.signature == signature:
            pause = min(2 * before.pause, MOST_RETRY_SECONDS)
        return cls(signature, told, pause, time.monotonic() + pause)

    def is_over(self, signature: Signature) -> bool:
        """Whether a bundle is to be tried now."""
        return signature != self.signature or time.monotonic() >= self.until


def _check_places(served: OnlineState, fresh: OnlineState) -> None:
    """Raise LearnError where an item that came while serving has another internal id than sessions and filters hold.

    It has where a grown bundle was lost and made again from a log that had lost what brought some items in.
    """
    learned, new_items = served.model.log_progress, served.event_processor.new_items
    before = np.empty(0, dtype=np.int32) if learned is None else learned.untrained
    items = [*served.model.ids.external(before), *new_items.ids]
    places = np.concatenate([before, np.arange(len(new_items)) + served.model.n_items])
    moved = np.flatnonzero(fresh.event_processor.places_of(items) != places).tolist()
    if moved:
        raise LearnError(
            f"{len(moved)} items have other places in the grown bundle than in the one that is served, "
            f"{shown(items[moved[0]])} among them; load it again to serve it"
        )


def _is_unforeseen(error: Exception) -> bool:
    """Whether the log is to show where it came from."""
    return not isinstance(error, MtawError)


def _training_of(manifest: Mapping[str, Any]) -> str:
    """The hash of the model that a training made, which a bundle is or has grown from."""
    return str(manifest.get("grown_from") or model_hash(manifest))


def _plain(item: Any) -> Any:
    """A numpy integer as a plain one."""
    return int(item) if isinstance(item, np.integer) else item


def _by_now(event: Event, now: int) -> Event:
    """The event, not later than now."""
    return replace(event, time=now) if event.time > now else event
