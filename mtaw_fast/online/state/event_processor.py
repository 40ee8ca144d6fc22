"""What the events of a log mean for a model: decided here once, for processes that serve and for compactions.

Axes: N items of the model, M new items after them, E clicks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.items.live import LiveItems
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import START, LogEntry
from mtaw_fast.online.log.events import (
    AddItems,
    Click,
    Event,
    Forget,
    HideItems,
    KeepRules,
    RemoveItems,
    ShowItems,
    TablePart,
    TableParts,
    is_id,
    parse,
)
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.cold_start import CONTENT_SESSIONS, SESSIONS
from mtaw_fast.online.state.content_prior import ContentPrior
from mtaw_fast.online.state.guards import Guards
from mtaw_fast.online.state.item_changes import WRONG_TABLE, apply_item_event
from mtaw_fast.online.state.new_items import NewItems
from mtaw_fast.online.state.session_items import SessionItems
from mtaw_fast.online.state.session_tracker import SessionTracker, UpdateBatch, event_key, key_of

_STEP = 16  # clicks between two updates of the vectors of new items


class EventSink(Protocol):
    """Receives what is learned. Items are internal ids, sessions the tracker's handles, times Unix milliseconds."""

    def click(
        self,
        handles: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        context: np.ndarray | None,
        types: np.ndarray | None,
    ) -> None:
        """Add clicks, in order: int64[E], int32[E], int64[E], and if the model knows them their context uint16[E, C]
        and their types uint8[E]."""
        ...

    def forget(self, handle: int) -> None:
        """Remove a session that came from the log's events."""
        ...

    def forget_in_tables(self, place: int) -> None:
        """Remove a session of the model's tables, by its place there."""
        ...

    def add_prior(self, item: int, neighbor: int, sessions: int, time: int | None = None) -> None:
        """Add the cold-start prior of a new item and one of its neighbors: so many made-up sessions.

        time: Unix milliseconds of their clicks in the trends; None: they are not in the trends.
        """
        ...

    def refresh_vectors(self) -> None:
        """Update the vectors of new items. It is called after the same events for every reader."""
        ...

    def renew_vectors(self, places: Sequence[int]) -> None:
        """Compute the vectors of new items again, by internal id, after sessions with them were forgotten."""
        ...


class EventProcessor:
    """Processes events in order and passes what is learned to a sink. Not thread-safe: one reader owns it.

    Parameters
    ----------
    model : Model
        Its ids and what it has learned before are the start.
    limits : LearningLimits
        Limits on what is learned from whom.
    since : int, optional
        Unix milliseconds up to which the model was trained: earlier clicks are in it already.

    Attributes
    ----------
    position : str
        The log's position after the last event.
    clicks : int64[N + new_items]
        Clicks of each item, those of the model included.
    gone : bool[N + new_items]
        Items that are not recommended.
    hidden : set of int
        Those of them that have too few clicks so far.
    priors : list of (int, int)
        Pairs of an item that was added by hand and a neighbor that was named with it.
    added : set of int
        Items that were added by hand since the training.
    removed_ids : set of id
        Items that were removed by hand and are not in the catalog: clicks that brought them are no longer in the log.
    content_priors : list of (int, int, int)
        A new item, a neighbor that its attributes suggest, and the time (0: unknown) of the newest click then.
    refused : Counter
        Clicks, items and vectors that were not learned, by reason; the tracker counts its own reasons.
    learned_clicks : int
        Clicks that were learned, those that the model carries along included.
    items : LiveItems
        The item table with what changed, and the items that were hidden by hand.
    table_parts : TableParts
        Changes of the item table that are not complete.
    keeps_vectors : bool
        Whether vectors of the model still follow sessions that were forgotten, until a compaction computes them again.
    changed, counted : bool
        Whether items were added, removed or changed, and whether known items were clicked. The reader resets both.
    """

    def __init__(self, model: Model, limits: LearningLimits, since: int | None = None) -> None:
        self._since = since
        self._ids, self._limits = model.ids, limits
        self._context = None if model.context is None else model.context.columns
        self._types = model.click_types
        self._n_items, self._d = model.n_items, model.config.model.embedding_dim
        self._progress = model.log_progress or LogProgress("", START, 0)
        self._id_type = int if model.ids.kind == "int" else str
        self._former = self._progress.former
        self._steps = 0
        self.position = self._progress.position
        self.guards = Guards(model, limits)
        self.tracker = SessionTracker(limits, self._progress.clock, self._progress.seen.tolist(), self.guards.flood)
        self.new_items = NewItems(model.n_items, limits.new_items, self._progress.entered, self._progress.candidates)
        self.refused: Counter[str] = Counter()
        self.learned_clicks = 0
        capacity = model.n_items + limits.new_items
        self.clicks = np.zeros(capacity, dtype=np.int64)
        self.clicks[: model.n_items] = model.popularity
        self.gone = np.zeros(capacity, dtype=bool)
        self.gone[self._progress.removed] = True
        self.gone[self._progress.hidden] = True
        self.hidden = set(self._progress.hidden.tolist())
        self.priors = list(zip(self._progress.seed_items.tolist(), self._progress.seed_neighbors.tolist(), strict=True))
        self.content_priors = [*self._progress.content_priors]
        self.added, self._untrained = set(self._progress.added), set(self._progress.untrained.tolist())
        self.removed_ids = set(self._progress.removed_ids)
        self._items_of_session = SessionItems()
        self._sessions, self._forgotten_places = model.sessions, set[int]()
        self._once_from = None if model.memory is None else model.memory.settings.once_from
        self._awaited, self._awaited_until = set[int](), START  # ids reserved for items that the log has yet to add
        self.items = LiveItems(model.items)
        self.table_parts = TableParts(self._progress.refused_tables)
        self._content, self._learned_until = ContentPrior(model), model.learned_until or 0
        self._entered: list[int] = []  # new items whose attributes have not been looked at
        self.keeps_vectors = False
        self.changed = True
        self.counted = False

    def start(self, sink: EventSink) -> None:
        """Pass on what the model holds outside its tables: priors, and the sessions that were still open."""
        for item, neighbor in self.priors:
            sink.add_prior(item, neighbor, SESSIONS)
        for item, neighbor, time in self.content_priors:
            sink.add_prior(item, neighbor, CONTENT_SESSIONS, time or None)
        self._enter_from_table(sink)
        for lines in self._progress.carried_lines():
            carried = [parse(line) for line in lines]
            for one in carried:
                if isinstance(one, TablePart):
                    self._change_items(one, sink)
            batch = self.tracker.resume(one for one in carried if isinstance(one, Click))
            self._apply_batch(batch, sink, admitted=True)
        self.tracker.resume_ongoing(self._progress.open, self._progress.arrival, self._progress.recent)
        sink.refresh_vectors()

    def keep_items(self, other: EventProcessor) -> None:
        """Give items the internal ids they have in another processor of the same model, before any event is processed.

        Items that are not recommended there are not recommended here. Up to `other.position`, an item is known only
        from where the log adds it; after that position it is known even if the log has lost that place.
        """
        for item in other.new_items.ids:
            if self.new_items.place_of(item) is None:
                place = self.new_items.add(item)
                if place is not None:
                    self._awaited.add(place)
        self._awaited_until = other.position
        self.gone[:] = other.gone
        self.hidden = set(other.hidden)

    def process(self, entries: Sequence[LogEntry], sink: EventSink) -> None:
        """Process events in the log's order; `position` moves to the last."""
        if self._former is not None and entries and entries[-1].position > self._former.position:
            count = sum(one.position <= self._former.position for one in entries)
            self.process(entries[:count], sink)
            self.remember_former()
            entries = entries[count:]
        if not entries:
            return
        before = sum(one.position <= self._awaited_until for one in entries) if self._awaited else 0
        self._process((one.event for one in entries[:before]), sink)
        if before < len(entries):
            self._awaited.clear()
            self._process((one.event for one in entries[before:]), sink)
        self.position = entries[-1].position

    def remember_former(self) -> None:
        """Count the events that a former training had learned as seen: some may have been redacted since.

        Only from the end of those on, as the others are in the log.
        """
        if self._former is not None:
            former, self._former = self._former, None
            self.tracker.remember(former.seen.tolist())

    def _process(self, events: Iterable[Event | None], sink: EventSink) -> None:
        clicks: list[Click] = []
        for event in events:
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
                self._remove(event)
            elif isinstance(event, (HideItems, ShowItems, KeepRules, TablePart)):
                self._change_items(event, sink)
        self._learn(clicks, sink)

    def _learn(self, clicks: list[Click], sink: EventSink) -> None:
        """Learn in steps that end after the same events for every reader, whatever the sizes of its reads."""
        begin = 0
        while begin < len(clicks):
            end = min(begin + _STEP - self._steps % _STEP, len(clicks))
            self._learn_step(clicks[begin:end], sink)
            self._steps += end - begin
            begin = end
            if self._steps % _STEP == 0:
                sink.refresh_vectors()

    def _learn_step(self, clicks: list[Click], sink: EventSink) -> None:
        if self._since is not None:
            later = [click for click in clicks if click.time > self._since]
            self.refused["trained"] += len(clicks) - len(later)
            if len(later) < len(clicks):
                self.tracker.remember(
                    event_key(click.session, click.id)
                    for click in clicks
                    if click.id is not None and click.time <= self._since
                )
            clicks = later
        for batch in self.tracker.batches(clicks):
            self._apply_batch(batch, sink)

    def _apply_batch(self, batch: UpdateBatch, sink: EventSink, admitted: bool = False) -> None:
        """admitted: whether all clicks have passed the guards before."""
        places = self._places(batch.items, batch.sessions)
        self._look_at_attributes()
        learned = places >= 0
        for at in np.flatnonzero(learned).tolist():
            place, handle = int(places[at]), batch.handles[at]
            items = self._items_of_session.of(handle)
            if place in items:  # a session counts an item once
                continue
            if admitted or self.guards.crowd.admits(place, items):
                self._items_of_session.add(handle, place)
                self.clicks[place] += 1
            else:
                self.refused["crowd"] += 1
                learned[at] = False
        places = places[learned]
        handles = np.array(batch.handles, dtype=np.int64)[learned]
        times = np.array(batch.times, dtype=np.int64)[learned]
        types = self._types.codes(batch.types)[learned] if self._types else None
        sink.click(handles, places, times, self._codes_of(batch, learned), types)
        self._content.count(places)
        self.new_items.count(places.tolist())
        for handle in batch.forgotten:
            self._forget_session(handle, sink)
        self.learned_clicks += len(places)
        self.counted = self.counted or len(places) > 0
        for place in self.hidden.intersection(places.tolist()) if self.hidden else ():
            if self.clicks[place] >= self._limits.min_clicks:
                self._show(place)

    def _codes_of(self, batch: UpdateBatch, known: np.ndarray) -> np.ndarray | None:
        """Return uint16[E, C], the context of the known clicks; None if the model knows none."""
        columns = self._context
        if columns is None:
            return None
        codes = np.zeros((len(batch.context), len(columns.names)), dtype=np.uint16)
        for row, given in enumerate(batch.context):
            if given:
                codes[row] = columns.codes(given)
        return codes[known]

    def _places(self, items: list[int | str], sessions: list[str]) -> np.ndarray:
        """Return int32 internal ids. An unknown item enters the catalog; -1 if it cannot."""
        found = self._ids.lookup(items)
        for at in np.flatnonzero(found < 0).tolist():
            if type(items[at]) is self._id_type and is_id(items[at]):
                found[at] = self._enter(items[at], sessions[at])
            else:
                self.refused["wrong_type"] += 1
        return found

    def _enter(self, item: int | str, session: str | None = None) -> int:
        """Return the internal id of an item that the model does not know; -1 if it cannot enter.

        session: whose click brings it; None if it is added by hand.
        """
        place = self.new_items.place_of(item)
        if place is not None and place not in self._awaited:
            return place
        if session is not None:
            if place is None and not self.new_items.has_room_for_clicks:
                self.refused["catalog_full"] += 1
                return -1
            if not self.new_items.admits(item, key_of(session)):
                self.refused["unproven"] += 1
                return -1
        if place is not None:
            self._awaited.discard(place)
            return place
        place = self.new_items.add(item)
        if place is None:
            self.refused["catalog_full"] += 1
            return -1
        self.changed = True
        self._entered.append(place)
        if item in self.removed_ids:
            self.removed_ids.discard(item)
            self.gone[place] = True
        elif self._limits.min_clicks > 1:
            self.hidden.add(place)
            self.gone[place] = True
        return place

    def _show(self, place: int) -> None:
        self.hidden.discard(place)
        self.gone[place] = False
        self.changed = True

    def _forget(self, session: str, sink: EventSink) -> None:
        key = key_of(session)
        self.new_items.forget(key)
        for handle in self.tracker.forget(session):
            self._forget_session(handle, sink)
        for place in self._progress.sessions_of(key).tolist():
            if place not in self._forgotten_places:
                self._forgotten_places.add(place)
                begin, end = self._sessions.offsets[place : place + 2]
                items = self._sessions.items[begin:end]
                self.keeps_vectors = self.keeps_vectors or bool(np.isin(items, self._progress.untrained).any())
                sink.forget_in_tables(place)
                distinct = list(dict.fromkeys(items.tolist()))
                all_count = self._once_from is None or place < self._once_from
                self._uncount(items if all_count else np.array(distinct), sink)
                self.guards.crowd.release(distinct)

    def _forget_session(self, handle: int, sink: EventSink) -> None:
        sink.forget(handle)
        items = self._items_of_session.take(handle)
        self._uncount(items, sink)
        self.guards.crowd.release(items[::-1].tolist())

    def _uncount(self, places: np.ndarray, sink: EventSink) -> None:
        """Take the clicks of a forgotten session back. An untrained item that no session holds now is hidden.

        If it is newer than the bundle, it is unknown again.
        """
        np.subtract.at(self.clicks, places, 1)
        distinct = np.unique(places)
        new = distinct[distinct >= self._n_items].tolist()
        self.new_items.uncount(places.tolist())
        for place in [*self._untrained.intersection(distinct.tolist()), *new]:
            if self.clicks[place] >= self._limits.min_clicks or self._is_described(place):
                continue
            if not self.gone[place]:  # an item that was removed by hand must not come back with a click
                self.hidden.add(place)
                self.gone[place] = True
            if place >= self._n_items:
                self.new_items[place - self._n_items].is_left = self.clicks[place] <= 0
        if new:
            sink.renew_vectors(new)
        self.changed = True

    def _is_described(self, place: int) -> bool:
        """Return whether more than clicks speaks for an untrained item: it was added by hand, or has attributes."""
        if place in self.added:
            return True
        if place >= self._n_items:
            return self.new_items[place - self._n_items].content is not None
        table = self.items.latest(self.places_of, self._size) if self._content.is_known else None
        item = self._ids.external(np.array([place], dtype=np.int32))[0]
        return table is not None and self._content.vector(item, place, table) is not None

    def _add(self, event: AddItems, sink: EventSink) -> None:
        wrong = sum(len(vector) != self._d for vector in event.vectors or ())
        if wrong:  # vectors for another bundle: no item is added, as when such items are added by hand
            self.refused["wrong_vector"] += wrong
            return
        for row, item in enumerate(event.items):
            if type(item) is not self._id_type or not is_id(item):
                self.refused["wrong_type"] += 1
                continue
            known = int(self._ids.lookup([item])[0])
            if known >= 0:  # it was removed, and comes back with what was learned
                self.added.add(known)
                self._show(known)
                continue
            place = self._enter(item)
            if place < 0:
                continue
            self.added.add(place)
            near = [] if event.neighbors is None else self._known(event.neighbors[row])
            self.new_items.describe(event, row, place, near)
            self._show(place)
            for neighbor in near:
                self.priors.append((place, neighbor))
                sink.add_prior(place, neighbor, SESSIONS)
        self._entered.clear()  # what was given with them says more
        sink.refresh_vectors()

    def _look_at_attributes(self, sink: EventSink | None = None) -> None:
        """Give items that just entered the vector of their attributes; with a sink, the cold-start prior too.

        An item that enters by a click has evidence of its own, which the prior would outweigh.
        """
        if self._entered and self._content.is_known:
            table, ids = self.items.latest(self.places_of, self._size), self.new_items.ids
            now = self.tracker.clock or self._learned_until
            for place in self._entered:
                vector = self._content.vector(ids[place - self._n_items], place, table)
                if vector is not None:
                    self.new_items.describe_by_content(place, vector)
                    if sink is not None:
                        for neighbor in self._content.neighbors(vector):
                            self.content_priors.append((place, neighbor, now))
                            sink.add_prior(place, neighbor, CONTENT_SESSIONS, now or None)
        self._entered.clear()

    def _enter_from_table(self, sink: EventSink) -> None:
        """Let items that only the table knows enter, if cold start is on and their attributes say something."""
        table = self.table() if self._limits.cold_start and self._content.is_known else None
        if table is None or not len(table.waiting):
            return
        said = self._content.says_something(table)
        for item, fine in zip(list(table.waiting.ids), said.tolist(), strict=True):
            if fine and type(item) is self._id_type and is_id(item) and item not in self.removed_ids:
                place = self._enter(item)
                if place >= 0:
                    self._show(place)
        self._look_at_attributes(sink)
        sink.refresh_vectors()

    def _remove(self, event: RemoveItems) -> None:
        for item, place in zip(event.items, self.places_of(event.items).tolist(), strict=True):
            if place < 0:
                self.removed_ids.add(item)
            else:
                self.hidden.discard(place)
                self.gone[place] = True
        self.changed = True

    def _change_items(self, event: Event, sink: EventSink) -> None:
        """Apply an event to the item table."""
        refusal = apply_item_event(event, self.items, self.table_parts)
        if refusal is None:
            self.changed = True
            self._enter_from_table(sink)
        elif refusal == WRONG_TABLE:
            self.refused[refusal] += 1

    def table(self) -> ItemTable | None:
        """Return the item table of all items so far."""
        return self.items.table(self.places_of, self._size)

    @property
    def _size(self) -> int:
        return self._n_items + len(self.new_items)

    def places_of(self, items: Sequence[int | str]) -> np.ndarray:
        """Return int32 internal ids of external ones; -1 for unknown items."""
        found = self._ids.lookup(items)
        for at in np.flatnonzero(found < 0).tolist():
            place = self.new_items.place_of(items[at])
            found[at] = -1 if place is None else place
        return found

    def _known(self, items: Iterable[int | str]) -> list[int]:
        found = self.places_of(list(items))
        return [place for place in found.tolist() if place >= 0 and place not in self._awaited]
