"""Online learning for one recommender: the log, the state that follows it, and switching to compacted bundles.

A learning folder holds

    log.json, events-*.log      the log (`online.log.file_log`)
    bundle/                     the compacted bundle, written by `online.compaction.compactor`
    arms/NAME/bundle/           instead, that of each of several bundles which learn from the log (arms)

Any number of processes share it. Each follows the log by itself; one at a time writes the compacted bundle.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import model_hash
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.data.item_ids import refuse_other_type
from mtaw_fast.errors import DataError, LearnError, MtawError, shown
from mtaw_fast.online.compaction.compaction import UnconfirmedTimeError
from mtaw_fast.online.compaction.compactor import CLEANUP_FAILED
from mtaw_fast.online.compaction.current import (
    Signature,
    current_bundle,
    former_position,
    learned_position,
    model_for,
    position_in,
    reader_id,
    signature_of,
    trained_until,
)
from mtaw_fast.online.compaction.schedule import CompactionSchedule
from mtaw_fast.online.compaction.serving_lock import ServingLock
from mtaw_fast.online.follower import LogFollower, OvertakenError
from mtaw_fast.online.log.checked_events import checked_click, forget_of
from mtaw_fast.online.log.event_log import START, EventLog
from mtaw_fast.online.log.events import Click, Displays, Event, TablePart, now_ms
from mtaw_fast.online.log.table_parts import TableParts
from mtaw_fast.online.origin_guard import OriginGuard
from mtaw_fast.online.settings import COMPACTED, LearningSettings
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.online.switching import MovedItemsError, SwitchFailure, check_internal_ids
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.system import host
from mtaw_fast.system.cached_property import cached_property
from mtaw_fast.system.fork_lock import ForkEvent, ForkLock

_WATCH_SECONDS = 0.5
_NOTE_SECONDS = 60.0
_DISPLAYS_SECONDS = 5.0
_LOG = logging.getLogger("mtaw_fast.online")


class OnlineLearner:
    """Follows a log for one recommender.

    folder: of the trained bundle. bundle: the result of `current_bundle`; it has a session memory. signature:
    `signature_of` the learning folder before `bundle` was loaded, so that a bundle written meanwhile is noticed.
    prepare: called with a bundle before it is served; it returns a callable that receives each new catalog of the
    bundle, in a thread of this object. verify: whether to check bundles when they are loaded. take_displays: returns
    which new items were shown since its last call, and how often; the log counts them for all processes.

    must_reload: whether items have other internal ids in a compacted bundle: only loading again serves it.

    Raises LearnError if the log cannot be read, or the bundle has learned from another one: no thread runs then, and
    the log is still open. OvertakenError if another compacted bundle was written meanwhile: load again.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        bundle: Bundle,
        signature: Signature,
        log: EventLog,
        settings: LearningSettings,
        prepare: Callable[[Bundle], Callable[[Catalog], None]],
        verify: bool,
        take_displays: Callable[[], tuple[list[int | str], list[int]]] | None = None,
    ) -> None:
        self._take_displays, self._displays_stored = take_displays, host.monotonic()
        self._folder, self.log, self.settings, self._verify = folder, log, settings, verify
        self._prepare = prepare
        self._failure: SwitchFailure | None = None  # of the last switch to a compacted bundle
        self._stopped = ForkEvent()
        self.compactions = CompactionSchedule(folder, settings)
        self._served_signature = signature
        self._newer: tuple[Signature, str] = (signature, START)  # a bundle that is not served yet, and its position
        self._following, self._switching = ForkLock(), ForkLock()
        self.must_reload = False
        self.bundle = bundle
        self._trained = _training_of(bundle.manifest)
        self._cut = START  # where the log was cut, if that was logged
        self._jumped = False  # whether the log's times have, at the last look
        self._serving_lock = ServingLock(settings.folder, Path(folder))
        try:
            self._note_reader()
            if signature_of(settings.folder) != signature:
                raise OvertakenError(f"the compacted bundle in {settings.folder} changed while it was loaded")
            self.follower = self._new_follower(bundle, signature)
            self.follower.start()
            self._watcher = host.loop(self._watch_folder(), "mtaw-learner")
            try:
                self._watcher.start()
            except BaseException:
                self.follower.stop()
                raise
        except BaseException:
            self._serving_lock.close()
            raise

    def _new_follower(self, bundle: Bundle, signature: Signature) -> LogFollower[OnlineState]:
        """Return a follower of the log that starts from `bundle`; signature: as for the class."""
        state = OnlineState(model_for(bundle, self.log), self.settings.limits, trained_until(bundle))
        return LogFollower(self.log, state, self._prepare(bundle), partial(self._is_behind, signature))

    def _is_behind(self, loaded: Signature, position: str) -> bool:
        """Return whether a compacted bundle newer than `loaded` has learned more than a reader at a position.

        The log before the bundle's position may be redacted: who reads on gives new items other internal ids, and
        cannot switch to the bundle. Who cannot switch anyway reads on.
        """
        signature, failure = signature_of(self.settings.folder), self._failure
        if signature == loaded or (failure is not None and failure.signature == signature):
            return False
        if self._newer[0] != signature:
            self._newer = signature, learned_position(self.settings.folder)
        return position < self._newer[1]

    @property
    def state(self) -> OnlineState:
        """What was learned since the bundle."""
        return self.follower.state

    @property
    def table_parts(self) -> TableParts:
        """The changes of the item table that are not complete, or did not fit."""
        return self.state.event_processor.table_parts

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
        context: Mapping[str, Any] | None = None,
        origin: str | None = None,
    ) -> str:
        """Append clicks to the log; see `Recommender.observe`."""
        for name, values in (("types", types), ("ids", ids)):
            if isinstance(values, (str, bytes)):
                raise DataError(f"observe: {name} must be a list, one for each click, not {shown(values, 60)}")
        count = len(items)
        now = now_ms()
        times = [now] * count if at is None else list(at) if isinstance(at, Iterable) else [at] * count
        kinds, names = list(types or [None] * count), list(ids or [None] * count)
        if not len(times) == len(kinds) == len(names) == count:
            raise DataError(
                f"observe: {count} items, {len(times)} times, {len(kinds)} types and {len(names)} ids; "
                "give equally many"
            )
        clicks = [
            checked_click(session, *values, context, where=f"observe, click {index}", trusted=origin is None)
            for index, values in enumerate(zip(items, times, kinds, names, strict=True))
        ]
        refuse_other_type(self.bundle.ids.kind, items, "observe")
        if origin is not None:
            guard = self._origins
            clicks = guard.judged(guard.origin_of(origin), clicks, self.usual_visits, now)
        return self.append(clicks, now=now)

    @cached_property
    def _origins(self) -> OriginGuard:
        """The counts of `observe` in this process."""
        return OriginGuard(self.settings.limits)

    def usual_visits(self, items: Sequence[int | str]) -> tuple[list[float], float]:
        """Return the share of each item in all visits, -1 for an unknown item, and the visits of a day."""
        return self.state.event_processor.usual_visits(items)

    def forget(self, session: str) -> str:
        """Append a request to forget a session; see `Recommender.forget`."""
        return self.append([forget_of(session, now_ms())])

    def append(self, events: Sequence[Event], wait: bool = False, now: int | None = None) -> str:
        """Append events to the log; return the position after them. wait: return only when they are learned here.

        An event whose time is in the future gets the current time, `now`. Clicks get it as the time of their arrival.
        """
        if not events:
            return self.position
        now = now_ms() if now is None else now
        position = self.log.append([_stamped(event, now) for event in events])
        if wait:
            self.catch_up()
        else:
            self.follower.wake()
        return position

    def catch_up(self) -> None:
        """Learn and publish everything that the log holds now, whichever process appended it."""
        while True:
            try:
                with self._following:  # `_switch` holds it too: a follower that it stopped must not publish
                    return self.follower.catch_up()
            except OvertakenError:
                if self._stopped.is_set():
                    raise
                self._try_to_switch(signature_of(self.settings.folder))

    def stop(self) -> None:
        """End all threads; a running compaction continues by itself."""
        self._stopped.set()
        self.follower.request_stop()  # first: it may be replaying a long log, and the watcher may wait for it
        self._watcher.join()
        with contextlib.suppress(LearnError):
            self._store_displays()
        with self._switching:
            self.follower.stop()
        self.log.close()
        self._serving_lock.close()

    def _watch_folder(self) -> host.Waits:
        while True:
            yield self._stopped, _WATCH_SECONDS
            if self._stopped.is_set():
                return
            signature, failure = signature_of(self.settings.folder), self._failure  # read once: `compact` resets it
            if signature != self._served_signature and (failure is None or failure.is_over(signature)):
                self._try_to_switch(signature)
                continue
            try:
                self._watch_clock()
                if host.monotonic() - self._displays_stored >= _DISPLAYS_SECONDS:
                    with contextlib.suppress(LearnError):  # as above
                        self._store_displays()
                if host.monotonic() - self._noted >= _NOTE_SECONDS:
                    with contextlib.suppress(LearnError):  # the follower says that the log does not answer
                        self._note_reader()
                if self.compactions.should_start(self.state.event_processor, self.bundle, self.log):
                    self.compact()
            except Exception as error:  # serving continues, and so must this thread
                self.compactions.restart_pause()  # otherwise a disk error would be logged at every poll
                _LOG.error("cannot compact what was learned: %s", error, exc_info=not isinstance(error, MtawError))

    def _store_displays(self) -> None:
        """Append how often this process has shown new items. What cannot be stored is not counted."""
        self._displays_stored = host.monotonic()
        items, counts = self._take_displays() if self._take_displays is not None else ([], [])
        if items:
            self.append([Displays(tuple(items), tuple(counts), now_ms())])

    def _watch_clock(self) -> None:
        """Say it once if the log's times have jumped, and once if they are confirmed."""
        jump = self.clock_jump
        if bool(jump) != self._jumped:
            self._jumped = bool(jump)
            _LOG.warning("%s", UnconfirmedTimeError(jump) if jump else "the log's times are confirmed")

    def _note_reader(self) -> None:
        """Tell the log from where this learner would read again."""
        self._noted, position = host.monotonic(), position_in(self.bundle, self.log)
        cut = self.log.cut()
        if position < cut and self._cut != cut:
            self._cut = cut
            _LOG.warning(
                "%s was away while other machines removed events up to %s, so what it learns may differ from theirs; "
                "copy the folder %s of one of them", self.settings.folder, cut, COMPACTED,
            )  # fmt: skip
        self.log.note_reader(reader_id(self.settings), position)

    @property
    def clock_jump(self) -> int:
        """See `LogClock.jump`."""
        return self.state.event_processor.tracker.clock.jump(now_ms())

    def _try_to_switch(self, signature: Signature) -> None:
        """Call `_switch`. If it fails, the old bundle is served on, and the switch is retried with growing pauses."""
        with self._switching:
            if self._stopped.is_set() or signature == self._served_signature:
                return
            try:
                self._switch(signature)
                self.compactions.restart_pause()  # whichever process has compacted
                self._served_signature, self._failure, self.must_reload = signature, None, False
            except OvertakenError:
                return  # by a still newer one, which comes next
            except Exception as error:
                last, message = self._failure, f"cannot switch to the compacted bundle: {error}"
                if last is None or (last.signature, last.message) != (signature, message):  # once per outage
                    _LOG.error(message, exc_info=not isinstance(error, MtawError))
                self._failure = SwitchFailure.after(last, signature, message)
                self.must_reload = isinstance(error, MovedItemsError)

    def _switch(self, signature: Signature) -> None:
        """Switch to a new compacted bundle; the old state answers until the new one has read the log.

        Only to one of the same training: in another one, the internal ids that sessions and filters hold mean other
        items.
        """
        self.check_training()  # before the whole bundle is read
        fresh = current_bundle(self._folder, self.settings.folder, self._verify, self.settings.shared_folder)
        if fresh.manifest == self.bundle.manifest and former_position(fresh) == former_position(self.bundle):
            return
        if _training_of(fresh.manifest) != self._trained:
            raise self._another_training()
        if "grown_from" in self.bundle.manifest and "grown_from" not in fresh.manifest:
            raise LearnError(
                f"{self.settings.folder / COMPACTED} is missing or damaged; its contents are served on, but when this "
                "process ends only those in the log remain: restore the folder"
            )
        old, follower = self.follower, self._new_follower(fresh, signature)
        follower.read_ahead()
        with self._following:
            with old.paused():  # it continues if the new one does not start
                follower.read_ahead()
                check_internal_ids(old.state, follower.state)
                follower.start()
                self.bundle, self.follower = fresh, follower
                old.request_stop()
            old.stop()

    def check_training(self) -> None:
        """Raise LearnError if the trained bundle's folder holds another training now."""
        if _training_of(read_manifest(Path(self._folder))) != self._trained:
            raise self._another_training()

    def _check_may_compact(self) -> None:
        self.check_training()
        if jump := self.clock_jump:
            raise UnconfirmedTimeError(jump)

    def _another_training(self) -> LearnError:
        return LearnError(f"{self._folder} holds another training now; load it again to serve it and learn from it")

    def compact(self, wait: bool = False) -> None:
        """Write what was learned into the compacted bundle, in a process of its own.

        wait: return only when this recommender serves the result. Raises LearnError if the bundle's folder holds
        another training now, or the log's times are not confirmed. With `wait` also if the compaction failed (the log
        still has every event), if the result is served but the log could not be cleaned up, or if `stop` was called.
        """
        self.compactions.restart_pause()
        self._failure = None
        self._check_may_compact()
        process = self.compactions.start(wait)
        if wait:
            self._until_served(process)

    def request_compaction(self) -> str | None:
        """Start a compaction of the log up to now, after one that is running; return the log's end.

        None, and nothing starts, if such a compaction is waiting or running. Raises LearnError as `compact`, and if the
        log cannot be read.
        """
        with self._following:
            if self.compactions.is_requested:
                return None
            self._check_may_compact()
            position = self.log.end()
            self.compactions.request()
            return position

    def _until_served(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until a compactor ends and its bundle is served; see `compact`."""
        while (code := process.poll()) is None:
            self._pause()
        if code not in (0, CLEANUP_FAILED):
            raise LearnError(
                f"the compaction in {self.settings.folder} failed with exit code {code}; see its message above"
            )
        while (signature := signature_of(self.settings.folder)) != self._served_signature:
            failure = self._failure
            if failure is not None and failure.signature == signature:
                raise LearnError(failure.message)
            self._pause()
        if code == CLEANUP_FAILED:
            raise LearnError(
                f"{self.settings.folder} has its compacted bundle, but its log still holds forgotten clicks or "
                "is too large; the next compaction tries again, see the message above"
            )

    def _pause(self) -> None:
        # A forked child has no thread that would switch to the bundle.
        if self._stopped.wait(_WATCH_SECONDS / 10) or not self._watcher.is_alive():
            raise LearnError(f"learning in {self.settings.folder} was stopped before its compacted bundle was served")


def _training_of(manifest: Mapping[str, Any]) -> str:
    """Return the hash of the trained model that a bundle is, or was compacted from."""
    return str(manifest.get("grown_from") or model_hash(manifest))


def _stamped(event: Event, now: int) -> Event:
    """Return the event with a time of at most `now`; a click arrives now."""
    if isinstance(event, Click):
        return event._replace(time=min(event.time, now), arrived=now)
    # A change of the item table keeps its time: it must be later than the table that it changes.
    return replace(event, time=now) if event.time > now and not isinstance(event, TablePart) else event
