"""What the events of a log mean for a model, decided once for everybody: serving processes and those that rebuild.

Axes: N items of the model, M new_items behind them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import START, Stamped
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget, RemoveItems, is_id, parse
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.new_items import NewItems
from mtaw_fast.online.state.session_tracker import SessionTracker, UpdateBatch, key_of

_STEP = 16  # clicks between two looks at new_items


class EventSink(Protocol):
    """What learns. Items are internal ids, sessions the tracker's handles, times Unix milliseconds."""

    def click(self, handles: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """Learn clicks in order: int64[E], int32[E], int64[E]."""
        ...

    def forget(self, handle: int) -> None:
        """Take a session out."""
        ...

    def forget_base(self, place: int) -> None:
        """Take a session of the model's tables out."""
        ...

    def seed(self, item: int, neighbor: int) -> None:
        """Let `item`, which was added by hand, begin as a usual partner of `neighbor`, which was named with it."""
        ...

    def look_again(self) -> None:
        """A moment, the same for every reader, to look at new_items again."""
        ...


class EventProcessor:
    """Reads events in order and tells a sink what to learn. Not thread-safe: one reader owns it.

    Parameters
    ----------
    model : Model
        Whose ids and earlier learning count.
    limits : LearningLimits
        Who teaches how much.
    since : int, optional
        Unix milliseconds up to which the model was trained: clicks until then are in it already.
    """

    def __init__(self, model: Model, limits: LearningLimits, since: int | None = None) -> None:
        self._since = since
        self._ids, self._limits = model.ids, limits
        self._n_items, self._d = model.n_items, model.config.model.embedding_dim
        self._learned = model.log_progress or LogProgress("", START, 0)
        self._kind = int if model.ids.kind == "int" else str
        self._steps = 0
        self.position = self._learned.position
        self.tracker = SessionTracker(limits, self._learned.clock, self._learned.seen.tolist())
        self.new_items = NewItems(model.n_items, limits.new_items)
        self.refused: Counter[str] = Counter()
        self.learned_clicks = 0
        room = model.n_items + limits.new_items
        self.clicks = np.zeros(room, dtype=np.int64)
        self.clicks[: model.n_items] = model.popularity
        self.gone = np.zeros(room, dtype=bool)
        self.gone[self._learned.removed] = True
        self.gone[self._learned.hidden] = True
        self.hidden = set(self._learned.hidden.tolist())
        self.seeds = list(zip(self._learned.seed_items.tolist(), self._learned.seed_neighbors.tolist(), strict=True))
        self._taught: dict[int, array[int]] = {}  # by handle: what its clicks were on
        self._sessions, self._gone_sessions = model.sessions, set[int]()
        self._awaited, self._awaited_until = set[int](), START  # places that are kept for items which are to come
        self.changed = True  # items came, went or were made again
        self.counted = False  # known ones were clicked

    def begin(self, sink: EventSink) -> None:
        """Tell `sink` what the model's own tables do not hold: named neighbors, and sessions that were not over."""
        for item, neighbor in self.seeds:
            sink.seed(item, neighbor)
        carried = [parse(line) for line in self._learned.carried.tobytes().split(b"\n") if line]
        update_batch = self.tracker.resume((one for one in carried if isinstance(one, Click)), self._learned.open)
        self._teach(update_batch, sink)
        sink.look_again()

    def keep_items(self, other: EventProcessor) -> None:
        """Give items the places that they have by another event_processor of the same model, and take out what is out there.

        Before any event is taken: what the log still says of an item comes after it. Up to `other.position` an item is
        known from where the log brings it in; behind that also where the log has lost it.
        """
        for item in other.new_items.ids:
            if self.new_items.known(item) is None:
                place = self.new_items.place(item)
                if place is not None:
                    self._awaited.add(place)
        self._awaited_until = other.position
        self.gone[:] = other.gone
        self.hidden = set(other.hidden)

    def take(self, stamped: Sequence[Stamped], sink: EventSink) -> None:
        """Take events in the log's order; `position` moves behind the last."""
        if not stamped:
            return
        before = sum(one.position <= self._awaited_until for one in stamped) if self._awaited else 0
        self._take((one.event for one in stamped[:before]), sink)
        if before < len(stamped):
            self._awaited.clear()
            self._take((one.event for one in stamped[before:]), sink)
        self.position = stamped[-1].position

    def _take(self, events: Iterable[Event | None], sink: EventSink) -> None:
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
        self._learn(clicks, sink)

    def _learn(self, clicks: list[Click], sink: EventSink) -> None:
        """Learn in steps that end at the same events for every reader, however they were read."""
        begin = 0
        while begin < len(clicks):
            end = min(begin + _STEP - self._steps % _STEP, len(clicks))
            self._learn_some(clicks[begin:end], sink)
            self._steps += end - begin
            begin = end
            if self._steps % _STEP == 0:
                sink.look_again()

    def _learn_some(self, clicks: list[Click], sink: EventSink) -> None:
        if self._since is not None:
            later = [click for click in clicks if click.time > self._since]
            self.refused["trained"] += len(clicks) - len(later)
            clicks = later
        self._teach(self.tracker.take(clicks), sink)

    def _teach(self, update_batch: UpdateBatch, sink: EventSink) -> None:
        places = self._places(update_batch.items)
        known = places >= 0
        if not known.all():
            places = places[known]
        handles = np.array(update_batch.handles, dtype=np.int64)
        times = np.array(update_batch.times, dtype=np.int64)
        sink.click(handles[known], places, times[known])
        for handle, place in zip(handles[known].tolist(), places.tolist(), strict=True):
            self._taught.setdefault(handle, array("i")).append(place)
        np.add.at(self.clicks, places, 1)
        for handle in update_batch.forgotten:
            self._forget_session(handle, sink)
        self.new_items.count(places.tolist())
        self.learned_clicks += len(places)
        self.counted = self.counted or len(places) > 0
        for place in self.hidden.intersection(places.tolist()) if self.hidden else ():
            if self.clicks[place] >= self._limits.min_clicks:
                self._show(place)

    def _places(self, items: list[int | str]) -> np.ndarray:
        """int32: internal ids; an unknown item enters the catalog, -1 where it may not."""
        found = self._ids.lookup(items)
        for at in np.flatnonzero(found < 0).tolist():
            if type(items[at]) is self._kind and is_id(items[at]):
                found[at] = self._enter(items[at])
            else:
                self.refused["wrong_type"] += 1
        return found

    def _enter(self, item: int | str) -> int:
        """The place of an item that the model does not know; -1 where the catalog is full."""
        place = self.new_items.known(item)
        if place is not None:
            self._awaited.discard(place)
            return place
        place = self.new_items.place(item)
        if place is None:
            self.refused["catalog_full"] += 1
            return -1
        self.changed = True
        if self._limits.min_clicks > 1:
            self.hidden.add(place)
            self.gone[place] = True
        return place

    def _show(self, place: int) -> None:
        self.hidden.discard(place)
        self.gone[place] = False
        self.changed = True

    def _forget(self, session: str, sink: EventSink) -> None:
        for handle in self.tracker.forget(session):
            self._forget_session(handle, sink)
        for place in self._learned.sessions_of(key_of(session)).tolist():
            if place not in self._gone_sessions:
                self._gone_sessions.add(place)
                begin, end = self._sessions.offsets[place : place + 2]
                self._uncount(self._sessions.items[begin:end])
                sink.forget_base(place)

    def _forget_session(self, handle: int, sink: EventSink) -> None:
        sink.forget(handle)
        self._uncount(np.frombuffer(self._taught.pop(handle, array("i")), dtype=np.int32))

    def _uncount(self, places: np.ndarray) -> None:
        """Clicks that went are none of an item's any more."""
        np.subtract.at(self.clicks, places, 1)
        self.changed = True

    def _add(self, event: AddItems, sink: EventSink) -> None:
        wrong = sum(len(vector) != self._d for vector in event.vectors or ())
        if wrong:  # another bundle's: none is added, as where they are given by hand
            self.refused["wrong_vector"] += wrong
            return
        for row, item in enumerate(event.items):
            if type(item) is not self._kind or not is_id(item):
                self.refused["wrong_type"] += 1
                continue
            known = int(self._ids.lookup([item])[0])
            place = known if known >= 0 else self._enter(item)
            if place < 0:
                continue
            near = [] if event.neighbors is None else self._known(event.neighbors[row])
            if place >= self._n_items:
                self.new_items.describe(event, row, place, near)
            self._show(place)
            for neighbor in near:
                self.seeds.append((place, neighbor))
                sink.seed(place, neighbor)
        sink.look_again()

    def _remove(self, event: RemoveItems) -> None:
        for place in self._known(event.items):
            self.hidden.discard(place)
            self.gone[place] = True
        self.changed = True

    def places_of(self, items: Sequence[int | str]) -> np.ndarray:
        """int32: the internal ids of external ones; -1 where an item is not known."""
        found = self._ids.lookup(items)
        for at in np.flatnonzero(found < 0).tolist():
            place = self.new_items.known(items[at])
            found[at] = -1 if place is None else place
        return found

    def _known(self, items: Iterable[int | str]) -> list[int]:
        found = self.places_of(list(items))
        return [place for place in found.tolist() if place >= 0 and place not in self._awaited]
