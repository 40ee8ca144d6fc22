"""What the events of a log mean for a model: decided here once, for processes that serve and for compactions.

Axes: N items of the model, M new items after them, E clicks.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Protocol

import numpy as np

from mtaw_fast.items import TableChange
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import (
    AddItems,
    Click,
    ConfirmClock,
    Displays,
    Event,
    Forget,
    HideItems,
    RemoveItems,
    SetPlacement,
    ShowItems,
    TablePart,
    parse,
)
from mtaw_fast.online.log.table_parts import TableParts
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.catalog_items import CatalogItems
from mtaw_fast.online.state.cold_start import CONTENT_SESSIONS, SESSIONS, day_before
from mtaw_fast.online.state.guards import Guards
from mtaw_fast.online.state.item_changes import WRONG_TABLE, apply_item_event
from mtaw_fast.online.state.log_clock import LogClock
from mtaw_fast.online.state.session_items import SessionItems
from mtaw_fast.online.state.session_tracker import SessionTracker, UpdateBatch, key_of

_STEP = 16  # clicks between two updates of the vectors of new items
_FEW_CLICKS, _WEEK_MS = 5, 7 * 86_400_000  # an item with more clicks, or older, needs no start


class EventSink(Protocol):
    """Receives what is learned. Items are internal ids, sessions the tracker's handles, times Unix milliseconds."""

    def click(
        self, handles: np.ndarray, items: np.ndarray, times: np.ndarray, context: np.ndarray | None,
        types: np.ndarray | None,
    ) -> None:  # fmt: skip
        """Add clicks, in order: int64[E], int32[E], int64[E], and if the model knows them their context uint16[E, C]
        and their types uint8[E]."""
        ...

    def forget(self, handle: int) -> None:
        """Remove a session that came from the log's events."""
        ...

    def forget_in_tables(self, base_session: int) -> None:
        """Remove a session of the model's tables, by its index there."""
        ...

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        """Add the cold-start prior of a new item and one of its neighbors: so many made-up sessions. time: Unix
        milliseconds of their clicks in the trends; None: they are not in the trends."""
        ...

    def refresh_vectors(self) -> None:
        """Update the vectors of new items that have new evidence. Every reader calls it after the same events."""
        ...

    def recompute_vectors(self, internal_ids: Sequence[int]) -> None:
        """Compute the vectors of new items (internal ids) again, because sessions with them were forgotten."""
        ...


class EventProcessor:
    """Processes events in order and passes what is learned to a sink. Not thread-safe: one reader owns it.

    since: Unix milliseconds up to which the model was trained: earlier clicks are in it already.

    position: the log's, after the last event. priors: an item that was added by hand, a neighbor that was named with
    it, and the time (0: unknown) of the newest click then. content_priors: the same with a neighbor that the attributes
    suggest. refused: counts clicks, items and vectors that were not learned, by reason; the tracker counts
    its own. learned_clicks: those that the model carries along included. keeps_vectors: whether vectors of the model
    still follow sessions that were forgotten, until a compaction computes them again. counted: whether known items were
    clicked; the reader resets it.
    """

    def __init__(self, model: Model, limits: LearningLimits, since: int | None = None) -> None:
        self._ids, self._limits = model.ids, limits
        self._context = None if model.context is None else model.context.columns
        self._types = model.click_types
        self._n_items, self._d = model.n_items, model.config.model.embedding_dim
        self._progress = model.log_progress or LogProgress("", START)
        self._former = self._progress.former
        self._steps = 0
        self.position = self._progress.position
        self.guards = Guards(model, limits)
        clock = LogClock(limits, self._progress.clock_state)
        self.tracker = SessionTracker(limits, clock, self._progress.seen.tolist(), since)
        self.refused: Counter[str] = Counter()
        self.items = CatalogItems(model, limits, self._progress)
        self.learned_clicks = 0
        progress = self._progress
        seeds = progress.seed_items.tolist(), progress.seed_neighbors.tolist(), progress.seed_times.tolist()
        self.priors: list[tuple[int, int, int]] = list(zip(*seeds, strict=True))
        self.content_priors = [*self._progress.content_priors]
        self._items_of_session = SessionItems()
        self._last_clicks = array("q")  # by handle: time of the last learned click
        self._sessions, self._forgotten_sessions = model.sessions, set[int]()
        self._once_from = None if model.memory is None else model.memory.settings.once_from
        self._awaited_until = START  # where the log has added the items whose ids are reserved
        self.table_parts = TableParts(self._progress.refused_tables)
        self._learned_until = model.learned_until or 0
        self.keeps_vectors = False
        self.counted = False

    def usual_visits(self, items: Sequence[int | str]) -> tuple[list[float], float]:
        """Return the share of each item in all visits, -1 for an unknown item, and the visits of a day. Another thread
        may call it."""
        return self.guards.crowd.usual(self.items.internal_ids_of(items).tolist())

    def start(self, sink: EventSink) -> None:
        """Pass on what the model holds outside its tables: priors, the sessions that were still open, and new rows."""
        for item, neighbor, time in self.priors:
            sink.add_prior(item, neighbor, SESSIONS, time or None)
        for item, neighbor, time in self.content_priors:
            sink.add_prior(item, neighbor, CONTENT_SESSIONS, day_before(time))
        self.tracker.resume(self._progress.open)
        for lines in self._progress.carried_lines():
            carried = [parse(line) for line in lines]
            for event in carried:
                if isinstance(event, TablePart):
                    self._change_items(event, sink)
            batch = self.tracker.resumed(event for event in carried if isinstance(event, Click))
            self._apply_batch(batch, sink, admitted=True)
        if (table := self.items.table()) is not None and table.new and self._limits.cold_start:
            self._enter_rows(self.items.content.of_waiting(table, table.new), sink)
        sink.refresh_vectors()

    def keep_items(self, other: EventProcessor) -> None:
        """Give items the internal ids they have in another processor of the same model, before any event is processed.

        Up to `other.position`, an item is known only from where the log adds it; after that position it is known even
        if the log has lost that part.
        """
        self.items.reserve(other.items)
        self._awaited_until = other.position

    def process(self, entries: Sequence[LogEntry], sink: EventSink) -> None:
        """Process events in the log's order; `position` moves to the last."""
        cuts: list[tuple[str, Callable[[], None]]] = []
        if self._former is not None:
            cuts.append((self._former.position, self.remember_former))
        if self.items.is_awaiting:
            cuts.append((self._awaited_until, self.items.end_reservation))
        for position, work in sorted(cuts, key=itemgetter(0)):
            count = sum(entry.position <= position for entry in entries)
            self._process(entries[:count], sink)
            if count < len(entries):
                work()
                entries = entries[count:]
            else:
                return
        self._process(entries, sink)

    def remember_former(self) -> None:
        """Count what a former training had learned as seen, from its end on: some may have been redacted since."""
        if self._former is not None:
            former, self._former = self._former, None
            self.tracker.remember(former.seen.tolist())

    def _process(self, entries: Sequence[LogEntry], sink: EventSink) -> None:
        clicks: list[Click] = []
        for event, _ in entries:
            if isinstance(event, Click):
                clicks.append(event)
                continue
            self._learn(clicks, sink)
            clicks = []
            if isinstance(event, Forget):
                self._forget(event.session, sink)
            elif isinstance(event, AddItems):
                self._add(event, sink)
            elif isinstance(event, RemoveItems):
                self.items.remove(event.items)
            elif isinstance(event, ConfirmClock):
                self.tracker.clock.confirm(event.time)
            elif isinstance(event, Displays):
                self.items.count_displays(event)
            elif isinstance(event, (HideItems, ShowItems, SetPlacement, TablePart)):
                self._change_items(event, sink)
        self._learn(clicks, sink)
        if entries:
            self.position = entries[-1].position

    def _learn(self, clicks: list[Click], sink: EventSink) -> None:
        """Learn in steps that end after the same events for every reader, whatever the sizes of its reads."""
        begin = 0
        while begin < len(clicks):
            end = min(begin + _STEP - self._steps % _STEP, len(clicks))
            for batch in self.tracker.batches(clicks[begin:end]):
                self._apply_batch(batch, sink)
            self._steps += end - begin
            begin = end
            if self._steps % _STEP == 0:
                sink.refresh_vectors()

    def _apply_batch(self, batch: UpdateBatch, sink: EventSink, admitted: bool = False) -> None:
        """Pass a batch on to the sink. admitted: whether all clicks have passed the guards before."""
        internal_ids = self.items.internal_ids_of([click.item for click in batch.clicks])
        for row, internal_id in enumerate(internal_ids.tolist()):
            learned = self._learned_item(batch, row, internal_id, admitted)
            if isinstance(learned, str):
                self.tracker.refuse(learned, batch.clicks[row])
                internal_ids[row] = -1
            else:
                internal_ids[row] = learned
        if self.items.entered:
            self._look_at_attributes()
        learned_rows = internal_ids >= 0
        internal_ids = internal_ids[learned_rows]
        handles = np.array(batch.handles, dtype=np.int64)[learned_rows]
        times = np.array([click.time for click in batch.clicks], dtype=np.int64)[learned_rows]
        types = self._types.codes([click.type for click in batch.clicks])[learned_rows] if self._types else None
        sink.click(handles, internal_ids, times, self._codes_of(batch.clicks, learned_rows), types)
        self.items.content.count(internal_ids)
        self.items.new_items.count(internal_ids.tolist())
        for handle, time in zip(handles.tolist(), times.tolist(), strict=True):
            if handle >= len(self._last_clicks):
                self._last_clicks.extend([0] * (handle + 1 - len(self._last_clicks)))
            self._last_clicks[handle] = time
        for handle in batch.forgotten:
            self._forget_session(handle, int(self.tracker.keys[handle]), sink)
        self.learned_clicks += len(internal_ids)
        self.counted = self.counted or len(internal_ids) > 0
        self.items.show_proven(internal_ids.tolist())

    def _learned_item(self, batch: UpdateBatch, row: int, internal_id: int, admitted: bool) -> int | str:
        """Return the internal id of an item as which a click is learned, or why it is refused. internal_id: -1 if the
        item was unknown before the batch."""
        click, handle = batch.clicks[row], batch.handles[row]
        if internal_id < 0:
            internal_id = self.items.entered_id(click.item)
        visited = self._items_of_session.of(handle)
        if internal_id in visited:  # a session counts an item once
            return internal_id
        flood, crowd, clock = self.guards.flood, self.guards.crowd, batch.clocks[row]
        is_judged = not (admitted or click.trusted)
        if is_judged and not flood.admits(click.item, clock):
            return "flood"
        if internal_id < 0 or internal_id in self.items.left:
            entered = self._enter_by_click(internal_id, click, clock, is_judged)
            if isinstance(entered, str):
                return entered
            internal_id = entered
        if not admitted:
            if not crowd.admits(internal_id, visited, clock, click.trusted):
                return "crowd"
            if click.trusted:
                flood.count_trusted(len(visited) + 1, clock)
            else:
                flood.count(key_of(click.session), click.item, len(visited) + 1, clock)
        self._items_of_session.add(handle, internal_id)
        self.items.clicks[internal_id] += 1
        return internal_id

    def _enter_by_click(self, internal_id: int, click: Click, clock: int, is_judged: bool) -> int | str:
        """Let an item enter that is unknown (-1) or has left; return its internal id, or why it does not."""
        if not self.items.fits(click.item):
            return "wrong_type"
        flood, items = self.guards.flood, self.items
        needed = (1 if flood.admits_new(clock) else 2) if is_judged else 0
        if internal_id < 0:
            entered = items.enter(click.item, click.session, needed)
        else:
            entered = items.enter_again(internal_id, click.item, click.session, needed)
        if isinstance(entered, int) and is_judged:
            flood.enter()
        return entered

    def _codes_of(self, clicks: Sequence[Click], known: np.ndarray) -> np.ndarray | None:
        """Return uint16[E, C], the context of the known clicks; None if the model knows none."""
        columns = self._context
        if columns is None:
            return None
        codes = np.zeros((len(clicks), len(columns.names)), dtype=np.uint16)
        for row, click in enumerate(clicks):
            if click.context:
                codes[row] = columns.codes(click.context)
        return codes[known]

    def _forget(self, session: str, sink: EventSink) -> None:
        key = key_of(session)
        self.items.new_items.forget(key)
        for handle in self.tracker.forget(session):
            self._forget_session(handle, key, sink)
        for base_session, last in self._progress.sessions_of(key):
            if base_session not in self._forgotten_sessions:
                self._forgotten_sessions.add(base_session)
                begin, end = self._sessions.offsets[base_session : base_session + 2]
                items = self._sessions.items[begin:end]
                self.keeps_vectors = self.keeps_vectors or bool(np.isin(items, self._progress.untrained).any())
                sink.forget_in_tables(base_session)
                distinct = list(dict.fromkeys(items.tolist()))
                all_count = self._once_from is None or base_session < self._once_from
                self._uncount(items if all_count else np.array(distinct), sink)
                self.guards.release(key, distinct, last)

    def _forget_session(self, handle: int, key: int, sink: EventSink) -> None:
        sink.forget(handle)
        items = self._items_of_session.take(handle)
        self._uncount(items, sink)
        if len(items):
            self.guards.release(key, items[::-1].tolist(), self._last_clicks[handle])

    def _uncount(self, internal_ids: np.ndarray, sink: EventSink) -> None:
        """Take the clicks of a forgotten session back."""
        new_internal_ids = self.items.uncount(internal_ids)
        if new_internal_ids:
            sink.recompute_vectors(new_internal_ids)

    def _add(self, event: AddItems, sink: EventSink) -> None:
        wrong = sum(len(vector) != self._d for vector in event.vectors or ())
        if wrong:  # vectors for another bundle: no item is added, as when such items are added by hand
            self.refused["wrong_vector"] += wrong
            return
        items = self.items
        for row, item in enumerate(event.items):
            if not items.fits(item):
                self.refused["wrong_type"] += 1
                continue
            known = int(self._ids.lookup([item])[0])
            internal_id = known if known >= 0 else items.enter(item)
            if isinstance(internal_id, str):
                self.refused[internal_id] += 1
                continue
            items.added.add(internal_id)
            items.left.discard(internal_id)
            items.show(internal_id)
            if items.is_trained(internal_id):  # it was removed, and comes back with what was learned
                continue
            neighbors = [] if event.neighbors is None else items.known(event.neighbors[row])
            if event.vectors is None:
                items.given.pop(internal_id, None)
            else:
                items.given[internal_id] = event.vectors[row]
            if internal_id >= self._n_items:
                items.new_items.describe(event, row, internal_id, neighbors)
            for neighbor in neighbors:
                self.priors.append((internal_id, neighbor, self._now))
                sink.add_prior(internal_id, neighbor, SESSIONS, self._now or None)
        items.entered.clear()  # what was given with them says more
        sink.refresh_vectors()

    def _look_at_attributes(self, sink: EventSink | None = None) -> None:
        """Give items that just entered the vector of their attributes; with a sink, the cold-start prior too: it would
        outweigh the evidence of a click."""
        items = self.items
        if items.entered and items.content.is_known:
            table, ids = items.live.latest(items.internal_ids_of, items.size), items.new_items.ids
            load = np.zeros(0, dtype=np.int64) if sink is None else self._neighbors_load()
            for internal_id in items.entered:
                vector = items.content.vector(ids[internal_id - self._n_items], internal_id, table)
                if vector is not None:
                    items.new_items.describe_by_content(internal_id, vector)
                    if sink is not None:
                        for neighbor in items.content.neighbors(vector, load):
                            self.content_priors.append((internal_id, neighbor, self._now))
                            sink.add_prior(internal_id, neighbor, CONTENT_SESSIONS, day_before(self._now))
        items.entered.clear()

    @property
    def _now(self) -> int:
        """The time of the newest click, 0 if unknown."""
        return self.tracker.clock.now or self._learned_until

    def _neighbors_load(self) -> np.ndarray:
        """Return int64[N]: of how many new items, that few have clicked, each item is a neighbor by attributes."""
        load = np.zeros(self._n_items, dtype=np.int64)
        for item, neighbor, time in self.content_priors:
            if self.items.clicks[item] < _FEW_CLICKS and time >= self._now - _WEEK_MS:
                load[neighbor] += 1
        return load

    def _enter_rows(self, vectors: Iterable[int | str], sink: EventSink) -> None:
        """Let items of the table enter before anybody clicks them."""
        items = self.items
        for item in vectors:
            if items.fits(item) and item not in items.removed_ids:
                internal_id = items.enter(item)
                if isinstance(internal_id, str):
                    self.refused[internal_id] += 1
                else:
                    items.show(internal_id)
        if items.entered:
            self._look_at_attributes(sink)
            sink.refresh_vectors()

    def _change_items(self, event: Event, sink: EventSink) -> None:
        """Apply an event to the item table. Items enter with their row if its attributes say something for the first
        time: who reads the log from a later position decides the same."""
        items, looks = self.items, self._limits.cold_start and self.items.content.is_known
        unknown: list[int | str] = []
        known_before: dict[int | str, np.ndarray] = {}

        def note(change: TableChange) -> None:
            ids = change.frame.ids
            unknown.extend(ids[row] for row in np.flatnonzero(items.internal_ids_of(ids) < 0).tolist())
            if unknown and (before := items.table()) is not None:
                known_before.update(items.content.of_waiting(before, unknown))

        refusal = apply_item_event(event, items.live, self.table_parts, note if looks else None)
        if refusal is None:
            items.changed = True
            if unknown and (table := items.table()) is not None:
                vectors = items.content.of_waiting(table, unknown)
                self._enter_rows([item for item in vectors if item not in known_before], sink)
        elif refusal == WRONG_TABLE:
            self.refused[refusal] += 1
