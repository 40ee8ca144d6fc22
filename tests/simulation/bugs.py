"""Planted bugs, each of which breaks one promise, to see that the simulation finds them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from mtaw_fast.items.live import LiveItems
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.online.compaction import compaction, compactor, current, redaction
from mtaw_fast.online.log import file_log, redis_log
from mtaw_fast.online.state.event_processor import EventProcessor
from mtaw_fast.online.state.guards import Guards
from mtaw_fast.online.state.session_tracker import SessionTracker, event_key
from mtaw_fast.storage.files import write_json
from mtaw_fast.system import host

Patch = tuple[Any, str, Any]


class _Host(SimpleNamespace):
    """The host with some functions replaced."""

    def __getattr__(self, name: str) -> Any:
        return getattr(host, name)


def _short_writes_count() -> list[Patch]:
    """A write that the disk took in part counts as whole."""

    def write(file: int, data: bytes) -> int:
        host.write(file, data)
        return len(data)

    return [(file_log, "host", _Host(write=write))]


def _no_fsync() -> list[Patch]:
    """With --fsync an event is acknowledged before it is flushed."""
    return [(file_log, "host", _Host(fdatasync=lambda file: None))]


def _segment_without_flushed_name() -> list[Patch]:
    """The name of a new segment is not flushed."""
    return [(file_log, "flush_name", lambda path: None)]


def _no_leading_newline() -> list[Patch]:
    """An append continues the line of one that was cut short."""
    return [(file_log, "host", _Host(write=lambda file, data: host.write(file, data[1:]) + 1))]


def _ids_forgotten() -> list[Patch]:
    """A compacted bundle does not remember event ids."""
    return [(SessionTracker, "seen", lambda tracker: np.empty(0, dtype=np.uint64))]


def _forgotten_in_tables_stay() -> list[Patch]:
    """A session that a compaction merged is not forgotten."""
    return [(LogProgress, "sessions_of", lambda progress, key: np.empty(0, dtype=np.int32))]


def _redaction_marked_first() -> list[Patch]:
    """An interrupted redaction counts as done."""
    real = redaction.redact_forgotten

    def marked(log: Any, folder: Any, until: str) -> int:
        real_done, outcome = redaction._done, redaction._done(log, folder)
        write_json(folder / redaction.MARK, {"log": log.identity, "position": until})
        redaction._done = lambda log, folder: outcome
        try:
            return real(log, folder, until)
        finally:
            redaction._done = real_done

    return [(compactor, "redact_forgotten", marked)]


def _open_sessions_dropped() -> list[Patch]:
    """A compaction does not carry the clicks of open sessions along."""
    return [(compaction._Compaction, "_carried", lambda self: b"")]


def _guards_start_over() -> list[Patch]:
    """A compacted bundle does not store what the learning limits have counted."""
    return [(Guards, "state", lambda guards: {})]


def _vectors_follow_reads() -> list[Patch]:
    """The vectors of new items depend on how many events a reader reads at a time."""
    real = EventProcessor.process

    def process(self: EventProcessor, entries: Any, sink: Any) -> None:
        real(self, entries, sink)
        sink.refresh_vectors()

    return [(EventProcessor, "process", process)]


def _old_training_served() -> list[Patch]:
    """A bundle that was compacted from another training is served."""
    real = current.current_bundle

    def any_base(folder: Any, learned: Any, *more: Any) -> Any:
        manifest = current.Bundle.load(learned / current.COMPACTED).manifest if (
            learned / current.COMPACTED / current.MANIFEST).exists() else {}  # fmt: skip
        former = current.model_hash
        current.model_hash = lambda bundle_manifest: manifest.get("grown_from", former(bundle_manifest))  # type: ignore[assignment]
        try:
            return real(folder, learned, *more)
        finally:
            current.model_hash = former

    from mtaw_fast import recommender
    from mtaw_fast.online import learner

    return [(owner, "current_bundle", any_base) for owner in (recommender, learner, compactor)]


def _tables_follow_reads() -> list[Patch]:
    """What a replacement of the item table keeps depends on which changes were read with it."""
    real = LiveItems.apply

    def apply(self: LiveItems, change: Any, time: int) -> None:
        real(self, change, time)
        self._replaced = None if self._replaced is None else (self._replaced[0], None)

    return [(LiveItems, "apply", apply)]


def _trained_ids_first() -> list[Patch]:
    """The ids of clicks that the training knew count as seen before the clicks that were read with them."""
    real = SessionTracker.batches

    def batches(self: SessionTracker, clicks: Any) -> Any:
        self.remember(event_key(click.session, click.id) for click in clicks if click.time <= (self._since or 0))
        return real(self, clicks)

    return [(SessionTracker, "batches", batches)]


def _machines_forget_each_other() -> list[Patch]:
    """A machine removes what another one has yet to compact from the stream."""
    return [(redis_log.RedisLog, "read_by_all", lambda log, reader, position: position)]


BUGS: Mapping[str, Callable[[], list[Patch]]] = {
    function.__name__.removeprefix("_").replace("_", "-"): function
    for function in (
        _short_writes_count, _no_fsync, _segment_without_flushed_name, _no_leading_newline, _ids_forgotten,
        _forgotten_in_tables_stay, _redaction_marked_first, _open_sessions_dropped, _guards_start_over,
        _vectors_follow_reads, _old_training_served, _tables_follow_reads, _trained_ids_first,
        _machines_forget_each_other,
    )
}  # fmt: skip


@contextlib.contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Switch a bug on inside the `with`; None: no bug."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, value in BUGS[name]() if name else []:
            stack.enter_context(mock.patch.object(owner, attribute, value))
        yield
