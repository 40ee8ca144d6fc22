"""Random logs of events, each read in random ways: what a reader knows must follow from the log alone.

A log is compacted at random positions. Readers begin with each of these bundles, read in pieces of their own, publish
at times of their own, and restart after a failed batch. Those of one bundle must agree in every bit, those of different
bundles in all that is decided: which clicks are learned, as which sessions and items, and the state of every rule.

python -m tests.online.readers --logs 100000
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.data.context import ClickContext, ContextColumns
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable, TableChange
from mtaw_fast.items.content_features import ContentFeatures
from mtaw_fast.items.content_vectors import ContentVectors
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.ranker_net import type_feature_names
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.compaction import compaction
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import (
    AddItems,
    Click,
    ConfirmClock,
    Event,
    Forget,
    HideItems,
    RemoveItems,
    SetPlacement,
    ShowItems,
    TablePart,
)  # fmt: skip
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state import event_processor, guards, log_clock, online_state, session_tracker
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import Conditions
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex
from tests.support.online.recommenders import model_fields, plain_ranker

N, D = 12, 4
TRAINED = 1_764_050_000_000  # the last click of the training
BEGIN = TRAINED + 86_400_000
SECOND, MINUTE, DAY = 1_000, 60_000, 86_400_000
NAMES: tuple[int | str, ...] = (
    *(f"sku-{number}" for number in range(N)),
    *(f"new-{number}" for number in range(6)),
    7,
)  # 7: of another type
STEPS = (0, 1, SECOND, 20 * SECOND, MINUTE, MINUTE + 1, 3 * MINUTE, 2 * DAY, 40 * DAY, -SECOND, -3 * MINUTE, -40 * DAY)
BEHIND = (0, 0, 1, SECOND, MINUTE, MINUTE + 1, 2 * MINUTE + 1, 3_600_001, DAY + 1)  # of a click's time, of its arrival
KINDS = (
    *["click"] * 16, "unarrived", "early", "early", "forget", "forget", "add", "add", "remove", "hide", "show",
    "placement", "table", "part", "confirm",
)  # fmt: skip
LIMITS = (
    LearningLimits(new_items=64),
    LearningLimits(session_gap=MINUTE, new_items=64, min_clicks=2),
    LearningLimits(
        session_gap=MINUTE, session_clicks=4, burst_clicks=4, fresh_visits=1, item_floor=1, item_share=0.4,
        item_window=20_000, pair_floor=0, pair_share=0.3, late=3_600_000, new_items=64,
    ),
    LearningLimits(
        session_gap=MINUTE, burst_clicks=3, burst_ms=30_000, fresh_visits=2, item_floor=0, pair_floor=1, pair_share=0.5,
        new_items=8, cold_start=1,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Log:
    """model: the kind of its first bundle. limits: an index into `LIMITS`. events: what `events_of` makes of them.
    compactions: after how many events. sizes: of the reads of each reader, repeated."""

    model: int
    limits: int
    events: list[tuple[int, ...]]
    compactions: list[int]
    sizes: list[list[int]]


def _logs() -> st.SearchStrategy[Log]:
    event = st.tuples(
        st.integers(0, len(KINDS) - 1), st.integers(0, 4), st.integers(0, len(NAMES) - 1), st.integers(0, 6),
        st.integers(0, len(STEPS) - 1), st.integers(0, len(BEHIND) - 1),
    )  # fmt: skip
    sizes = st.lists(st.sampled_from((1, 2, 3, 5, 16, 17, 1000)), min_size=1, max_size=4)
    return st.builds(
        Log, st.integers(0, 4), st.integers(0, len(LIMITS) - 1), st.lists(event, min_size=1, max_size=60),
        st.lists(st.integers(0, 60), max_size=3), st.lists(sizes, min_size=2, max_size=3),
    )  # fmt: skip


LOGS = _logs()


def events_of(specs: Sequence[tuple[int, ...]]) -> list[Event]:
    """Return the events of a log, with clocks that run, jump and return."""
    events: list[Event] = []
    clock = BEGIN
    for number, (kind_index, session, item, identity, step, behind) in enumerate(specs):
        kind = KINDS[kind_index]
        clock = max(clock + STEPS[step], TRAINED)
        name, other = NAMES[item], NAMES[(item + session + 1) % (len(NAMES) - 1)]
        if kind in ("click", "unarrived", "early"):
            moment = TRAINED - identity % 2 if kind == "early" else clock - BEHIND[behind]
            arrived = None if kind == "unarrived" else clock
            event_type, event_id = ("view", "cart", None)[identity % 3], f"e{identity}" if identity else None
            context = {"from": ("search", "mail", "odd")[session % 3]}
            trusted, refused = identity == 5, "origin" if identity == 6 and behind > 4 else None
            events.append(Click(f"s{session}", name, moment, event_type, event_id, arrived, context, trusted, refused))
        elif kind == "forget":
            events.append(Forget(f"s{session}", clock))
        elif kind == "add":
            vectors = ((0.1 * identity, 1.0, -0.5, 0.2)[: D - (identity == 6)],)
            neighbors = ((other,),)
            events.append(
                AddItems((name,), None if identity % 2 else neighbors, vectors if identity % 2 else None, clock)
            )
        elif kind == "confirm":
            events.append(ConfirmClock(clock))
        elif kind == "placement":
            content = {"sets": [{"rules": {"pin": {str(name): 1}}}]} if identity > 1 else None
            events.append(SetPlacement(("one", "two")[identity % 2], content, clock))
        elif kind in ("table", "part"):
            sizes = {str(name): float(identity), str(other): 1.0}
            rows = [{"id": row, "size": size} for row, size in sizes.items()]
            change = TableChange.of(rows, "patch" if behind % 3 else "replace", kinds={"size": "number"})
            data = change.packed()
            count = 1 if kind == "table" else 2
            pieces = [data] if count == 1 else [data[:5], data[5:]]
            events += [TablePart(f"t{number}", part, count, piece, clock) for part, piece in enumerate(pieces)]
        else:
            kinds: dict[str, type[RemoveItems | HideItems | ShowItems]] = {
                "remove": RemoveItems, "hide": HideItems, "show": ShowItems,
            }  # fmt: skip
            events.append(kinds[kind]((name,), clock))
    return events


@cache
def _bundle(kind: int) -> Model:
    """Return a small model: 0 without times, 1 with trends, 2 with context and types too, 3 with an item table, 4 with
    new rows in it, of items that the log names too."""
    rng = np.random.default_rng(kind)
    parts = model_fields(N, D, seed=kind)
    sessions = Sessions.from_lists([rng.integers(0, N, rng.integers(2, 5)) for _ in range(20)])
    parts["popularity"] = np.bincount(sessions.items, minlength=N).astype(np.int64)
    timed, memory = kind in (1, 2), MemoryTables.build(sessions, N)
    others: tuple[str, ...] = ()
    times = TRAINED - 10_000 * np.arange(len(sessions.items), dtype=np.int64)[::-1]
    if timed:
        parts |= {"clicked_at": times}
    if kind == 2:
        columns = ContextColumns(("from",), (("search", "mail"),))
        codes = rng.integers(0, 3, (len(sessions.items), 1)).astype(np.uint16)
        clicked = replace(sessions, context=codes)
        trends = TrendTables.build(clicked, times, N, context_sizes=columns.sizes)
        parts |= {"context": ClickContext(columns, codes), "trends": trends}
        others = (*SideFeatures(columns.names).names, *type_feature_names(ClickTypes(("view", "cart"))))
        parts |= {"types": rng.integers(0, 2, len(sessions.items)).astype(np.uint8)}
    elif timed:
        parts |= {"trends": TrendTables.build(sessions, times, N)}
    if kind == 3:
        frame = ItemFrame.of([{"id": name, "size": float(place)} for place, name in enumerate(NAMES[:N])])
        features = ContentFeatures(({"name": "size", "kind": "number", "edges": [2.0, 4.0]},))
        weights = rng.normal(0, 1, (features.count + 1, D)).astype(np.float32)
        parts |= {"items": ItemTable(0).replaced(frame, np.arange(N), N)}
        parts |= {"content": ContentVectors(features, weights, 1.0, {})}
    if kind == 4:
        names = NAMES[: N + 3]
        rows = [{"id": name, "group": f"g{place % 3}"} for place, name in enumerate(names)]
        frame = ItemFrame.of(rows, kinds={"group": "category"})
        features = ContentFeatures(({"name": "group", "kind": "category", "labels": ["g0", "g1", "g2"]},))
        weights = rng.normal(0, 1, (features.count + 1, D)).astype(np.float32)
        table = ItemTable(0).replaced(frame, np.array([*range(N), -1, -1, -1]), N)
        parts |= {"items": replace(table, new={"new-0": TRAINED, "new-2": TRAINED})}
        parts |= {"content": ContentVectors(features, weights, 1.0, {})}
    return Model.of(**parts, memory=memory, ranker_net=plain_ranker(timed, timed, others))


def entries_of(events: Sequence[Event]) -> list[LogEntry]:
    return [LogEntry(event, f"{place:010d}-000000000000") for place, event in enumerate(events, 1)]


@contextmanager
def _small_numbers() -> Iterator[None]:
    """Let a few events do inside the `with` what takes many."""
    with (
        mock.patch.multiple(log_clock, _CONFIRMING_CLICKS=2, _CONFIRMING_MS=MINUTE, _LATE_IN_A_ROW=3),
        mock.patch.object(session_tracker, "REMEMBERED_IDS", 6),
        mock.patch.object(compaction, "now_ms", return_value=TRAINED),  # of a host whose clock is not ahead
        mock.patch.multiple(guards, _CELLS=1 << 10, _LAST_CELL=(1 << 10) - 1),
        mock.patch.object(event_processor, "_STEP", 4),
        mock.patch.object(online_state, "_WAITING", 2),
    ):
        yield


@_small_numbers()
def check(log: Log) -> None:
    """Read a log in all ways that it names. Raises AssertionError where two readers differ."""
    entries, limits, first = entries_of(events_of(log.events)), LIMITS[log.limits], _bundle(log.model)
    cuts = sorted({min(cut, len(entries)) for cut in log.compactions})
    sizes = itertools.cycle(log.sizes)
    bundles = [(0, first)]
    for cut in cuts:
        begin, model = bundles[-1]
        bundles.append((cut, _compacted(model, entries[begin:cut], limits, next(sizes))))
    ends = [*cuts, len(entries)]
    for begin, model in bundles:
        _check_readers(model, entries, begin, [end for end in ends if end > begin], limits, log.sizes)
    decided = [_decided(_compacted(model, entries[begin:], limits, next(sizes))) for begin, model in bundles]
    for (begin, _), other in zip(bundles[1:], decided[1:], strict=True):
        _same(decided[0], other, f"compacted at {begin} on the way and not")


def _compacted(model: Model, entries: Sequence[LogEntry], limits: LearningLimits, sizes: Sequence[int]) -> Model:
    return compact_model(model, "log", _pieces(entries, sizes), limits, since=_trained_until(model))


def _trained_until(model: Model) -> int:
    return TRAINED if model.log_progress is None or model.log_progress.since is None else model.log_progress.since


def _pieces(entries: Sequence[LogEntry], sizes: Sequence[int]) -> Iterator[list[LogEntry]]:
    begin = 0
    for size in itertools.cycle(sizes):
        if begin >= len(entries):
            return
        yield list(entries[begin : begin + size])
        begin += size


def _check_readers(
    model: Model, entries: Sequence[LogEntry], begin: int, ends: Sequence[int], limits: LearningLimits,
    sizes: Sequence[Sequence[int]],
) -> None:  # fmt: skip
    """Let readers of one bundle read on, each with its sizes; the second publishes after each read, and the last one
    restarts where the others compare."""
    readers = [OnlineState(model, limits, _trained_until(model)) for _ in sizes]
    at = begin
    for end in ends:
        for number, own in enumerate(sizes):
            for piece in _pieces(entries[at:end], own):
                readers[number].apply(piece)
                if number == 1:
                    readers[number].catalog()
        at = end
        again = readers[-1].restarted()
        again.apply(entries[begin:end])
        states = [_state(reader) for reader in (*readers, again)]
        readers[-1] = again
        for number, state in enumerate(states[1:], 1):
            _same(states[0], state, f"events {begin} to {end}, readers 0 and {number}")


def _same(one: dict[str, Any], other: dict[str, Any], where: str) -> None:
    for name, value in one.items():
        assert value == other[name], f"{where}: {name} differs: {value!r} and {other[name]!r}"


_RANKED = Sessions.from_lists([[0], [1, 2], [N - 1], [3, 0, 5]])


def _state(reader: OnlineState) -> dict[str, Any]:
    """Return all that a reader knows."""
    processor, now = reader.event_processor, BEGIN + 50 * DAY
    tracker, items, new_items = processor.tracker, processor.items, processor.items.new_items
    catalog = reader.catalog()
    model = reader.model
    pipeline = Pipeline.of(
        catalog, NativeEncoder(model.config, model.weights), NativeIndex(model.item_vectors, model.scan)
    )
    known: dict[str, Any] = {
        "position": reader.position,
        "clock": tracker.clock.state(),
        "refused": (dict(+processor.refused), dict(+tracker.refused)),
        "open": [(name, _fields(session)) for name, session in tracker._open.items()],
        "seen": tracker.seen().tolist(),
        "keys": tracker.keys.tolist(),
        "guards": {name: array.tolist() for name, array in processor.guards.state().items()},
        "ids": new_items.ids,
        "left": new_items.left,
        "candidates": list(new_items.candidates.items()),
        "items": (items.clicks.tolist(), items.unavailable.tolist(), items.hidden, items.added, items.removed_ids),
        "vectors": catalog.vectors.tolist(),
        "table": _table(items.table()),
        "sessions": [array.tolist() for array in reader.delta.ordered()],
        "rows": [[array.tolist() for array in reader.delta.row(item)] for item in range(items.size)],
        "counts": [reader.delta.counts(item).tolist() for item in range(items.size)],
        "rankings": [
            array.tolist()
            for at in (None, now)
            for array in pipeline.rank(_RANKED, items.size, Conditions(at=at if reader.trends is not None else None))
        ],
    }
    if reader.trends is not None:
        trends = reader.trends
        known["trends"] = [
            *[array.tolist() for array in trends.sessions()],
            trends.counts(np.arange(items.size, dtype=np.int32), now).tolist(),
            [[array.tolist() for array in trends.row(item, now)] for item in range(items.size)],
            [array.tolist() for array in trends.rising(now, 50)],
        ]
    return known


def _fields(session: Any) -> list[Any]:
    return [
        list(value) if hasattr(value, "typecode") else value
        for value in map(session.__getattribute__, session.__slots__)
    ]


def _table(table: ItemTable | None) -> Any:
    """Return what a table says; its versions, by which caches go, count how often it was made."""
    if table is None:
        return None
    rows = table.values_at(table.columns, np.arange(table.n_rows))
    return rows, table.kinds, sorted(table.hidden, key=str), dict(table.placements), table.changed, len(table.waiting)


def _decided(model: Model) -> dict[str, Any]:
    """Return what a compacted model says of the log: all but the order of its tables, and vectors."""
    progress, sessions = model.log_progress, model.sessions
    assert progress is not None
    learned = sorted(
        (
            key, sessions[place].tolist(), *[
                None if column is None else column[sessions.offsets[place] : sessions.offsets[place + 1]].tolist()
                for column in (sessions.times, sessions.types, sessions.context)
            ],
        )
        for key, place in zip(progress.keys.tolist(), progress.sessions.tolist(), strict=True)
    )  # fmt: skip
    names = (
        "position",
        "clock_state",
        "since",
        "entered",
        "content_priors",
        "refused_tables",
        "removed_ids",
        "added",
    )
    arrays = ("seen", "untrained", "removed", "hidden", "seed_items", "seed_neighbors", "given_items", "given_vectors")
    return {
        **{name: getattr(progress, name) for name in names},
        **{name: getattr(progress, name).tolist() for name in arrays},
        "learned": learned,
        "carried": [line for lines in progress.carried_lines() for line in lines],
        "open": list(progress.open.items()),
        "guards": {name: array.tolist() for name, array in progress.guards.items()},
        "candidates": list(progress.candidates.items()),
        "ids": model.ids.external(np.arange(model.n_items, dtype=np.int32)),
        "popularity": model.popularity.tolist(),
        "table": _table(model.items),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.online.readers", description=__doc__.splitlines()[0])
    parser.add_argument("--logs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first thousand")
    options = parser.parse_args()
    count = 0
    begin = time.process_time()

    for number in itertools.count(options.seed):
        size = min(1000, options.logs - count)
        if size <= 0:
            break

        @seed(number)
        @settings(max_examples=size, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(LOGS)
        def run(log: Log) -> None:
            check(log)

        run()
        count += size
        print(f"{count} logs, no difference; {time.process_time() - begin:.0f} s of processor time", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
