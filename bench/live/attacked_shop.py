"""A trained shop, an hour of its honest visitors, and colluding sessions among them: what the latter achieve."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.report import say
from bench.live.inputs import MORNING
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import ClickLaw, draw_clicks, make_world, session_lengths
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click, Forget
from mtaw_fast.online.origin_guard import OriginGuard
from mtaw_fast.online.settings import DAY_MS, LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.online.state.session_tracker import key_of
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex

_ITEMS, _PAST = 3_000, 20_000  # of the log, which lasts 30 days
_MAX_CLICKS = 3_000_000  # of a shop's past
_HOUR, _BETWEEN = 3_600_000, 30_000
_APART = 31 * 60_000  # more than a session's gap
_RANK_OF_A, _POPULAR = 50, 20
_FAR, ITEM_CHOICES = 520, (0, 60, 400)  # B: beyond this rank for visitors of A, and 500 for unknown ones
_TO_A = 24  # visits an hour to A
_MOST_CLICKS = 30_000  # of an attack
_CHUNK = 32  # uploads between two looks of the guard at what is learned


@dataclass(frozen=True)
class Shape:
    """What colluding sessions do. A visit: `before` fillers, A if `with_a`, `between` fillers, the target `clicks`
    times, `after` fillers.

    item: which B. visits: of one id. apart: whether half of them come 31 minutes later. pace: ms between clicks; 0: one
    upload. times: that clients claim. even: whether sessions come over the whole hour, or at once, at `begin` of it.
    """

    target: str = "B"
    item: int = 0
    before: int = 3
    with_a: bool = False
    between: int = 0
    clicks: int = 1
    after: int = 0
    filler: str = "random"
    visits: int = 1
    apart: bool = False
    pace: int = 0
    times: str = "now"
    forgets: str = "none"
    even: bool = False
    begin: float = 0.9


@dataclass(frozen=True)
class Outcome:
    """Ranks of B for unknown visitors and visitors of A at the end of the hour, and the shares of honest clicks that
    were learned: of all, and on the attacked items (A, and the popular ones if the shape clicks them)."""

    unknown: int
    visitors: int
    honest: float
    attacked: float


@dataclass(frozen=True)
class _Upload:
    at: int
    origin: str
    events: Sequence[Click | Forget]


class _Observed(OnlineState):
    """Counts the clicks that are learned, by session key and internal item."""

    def __init__(self, model: Model, limits: LearningLimits) -> None:
        self.learned: Counter[tuple[int, int]] = Counter()
        super().__init__(model, limits)

    def click(
        self,
        handles: np.ndarray,
        items: np.ndarray,
        times: np.ndarray,
        context: np.ndarray | None = None,
        types: np.ndarray | None = None,
    ) -> None:
        super().click(handles, items, times, context, types)
        keys = self.event_processor.tracker.keys[handles].tolist()
        self.learned.update(zip(keys, items.tolist(), strict=True))


def trained_shop(folder: Path, n_items: int = _ITEMS, n_sessions: int = _PAST) -> Model:
    """Return a model of a generated log; with the default sizes of 112,804 clicks."""
    log, dataset, bundle = folder / "clicks.csv", folder / "dataset", folder / "bundle"
    write_click_log(log, n_items, n_sessions, seed=0)
    for arguments in (
        ["prepare", "clicks", log, dataset, "--test-days", "0"],
        ["train", dataset, bundle, "--no-refit"],
    ):
        say(f"attacks, {arguments[0]}")
        words = [sys.executable, "-m", "mtaw_fast", *map(str, arguments)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return Bundle.load(bundle).model


def at_rate(model: Model, per_day: int) -> Model:
    """Return the model with its past at so many clicks a day, repeated until it is a week or `_MAX_CLICKS`."""
    past = model.sessions
    assert model.memory is not None
    assert model.trends is not None
    assert past.times is not None
    first, latest = int(past.times.min()), int(past.times.max())
    span = past.n_clicks / per_day * DAY_MS
    times = ((past.times - latest) * (span / (latest - first))).astype(np.int64)
    repeats = max(1, min(round(7 * DAY_MS / span), _MAX_CLICKS // past.n_clicks))
    repeated = Sessions.concatenate([past.without_times()] * repeats)
    moments = latest + np.concatenate([times - int(turn * span) for turn in reversed(range(repeats))])
    memory = MemoryTables.build(repeated, model.n_items, replace(model.memory.settings, recency=None), threads=2)
    return Model.of(
        config=model.config, weights=model.weights, ids=model.ids, popularity=model.popularity * repeats,
        memory=memory, ranker_net=model.ranker_net, clicked_at=moments,
        trends=TrendTables.build(repeated, moments, model.n_items, model.trends.settings, threads=2),
    )  # fmt: skip


class Shop:
    """One shop, attacked again and again from the same state."""

    def __init__(self, model: Model, per_day: int, limits: LearningLimits, seed: int, n_items: int = _ITEMS) -> None:
        """model: as of `at_rate`. n_items: of the log that it was trained on."""
        self.model, self.per_day, self._limits, self._seed = model, per_day, limits, seed
        self._encoder = NativeEncoder(model.config, model.weights)
        self._index = NativeIndex(model.item_vectors, model.scan)
        self._names = model.ids.external(np.arange(model.n_items, dtype=np.int32))
        self._world = make_world(n_items, 0, ClickLaw())
        self._begin = MORNING if model.learned_until is None else model.learned_until
        popular = np.argsort(-model.popularity, kind="stable")
        self._popular = popular[:_POPULAR].tolist()
        self._a = int(popular[min(_RANK_OF_A, len(popular) // 8)])
        self.honest = list(self._honest(_HOUR))
        quiet = self._after(self.honest)
        ranks = [self._ranked(quiet, client) for client in (True, False)]
        known = [order[order < model.n_items] for order in ranks]  # without what honest visitors brought
        far = min(_FAR, model.n_items // 2)
        beyond = set(known[0][far - 20 :].tolist())
        candidates = [item for item in known[1][far:].tolist() if item in beyond]
        self._partners = [item for item in known[1].tolist() if item != self._a][:_POPULAR]
        self._targets = [candidates[min(skip, len(candidates) - 1)] for skip in ITEM_CHOICES]
        self.before = [tuple(self._rank(order, item) for order in ranks) for item in self._targets]
        self.baseline = self._shares(quiet, {self._a})

    def attack(self, shape: Shape, sessions: int, many: bool) -> Outcome:
        """Let colluding sessions act in the hour. many: from as many origins, or from one."""
        uploads = sorted([*self.honest, *self._collusion(shape, sessions, many)], key=lambda upload: upload.at)
        state = self._after(uploads)
        name = "invented-B" if shape.target == "new" else self._names[self._targets[shape.item]]
        item = int(state.event_processor.items.internal_ids_of([name])[0])
        at_popular = shape.target == "popular" or shape.filler == "popular"
        honest, attacked = self._shares(state, {self._a, *(self._popular if at_popular else ())})
        unknown, visitors = (self._rank(self._ranked(state, client), item) for client in (True, False))
        return Outcome(unknown, visitors, honest, attacked)

    def learned_by_one_address(self, days: int = 1) -> float:
        """Return the share of honest clicks that is learned if all come from one address."""
        uploads = [replace(upload, origin="proxy") for upload in self._honest(days * DAY_MS)]
        return self._shares(self._after(uploads), set(), uploads)[0]

    def invented(self, ids: int, many: bool, calls: int = 1_000) -> dict[str, float]:
        """Return what so many invented ids within 5 s cost: catalog, memory in MiB, microseconds of a request before
        and after, and whether an honest new item enters with its first session."""
        state, guard = _Observed(self.model, self._limits), OriginGuard(self._limits)
        quiet = Pipeline.of(_Observed(self.model, self._limits).catalog(), self._encoder, self._index)
        memory, uploads = _resident(), []
        for number in range(ids):
            at = self._begin + number * 5_000 // ids
            click = Click(f"bot-{number // 20}", f"invented-{number}", at, arrived=at)
            uploads.append(_Upload(at, f"bot-{number if many else 0}", [click]))
        self._apply(state, guard, uploads)
        flooded, grown = Pipeline.of(state.catalog(), self._encoder, self._index), _resident() - memory
        before, after = self._p50((quiet, flooded), calls)
        at = self._begin + 6_000
        honest = [Click("fresh", item, at, arrived=at) for item in (self._names[self._a], "honest-new")]
        self._apply(state, guard, [_Upload(at, "fresh", honest)])
        enters = bool(state.event_processor.items.internal_ids_of(["honest-new"])[0] >= 0)
        sizes = {"catalog": self.model.n_items, "catalog_after": flooded.catalog.size}
        return {
            **sizes,
            "MiB": grown,
            "before_us": before,
            "after_us": after,
            "ratio": after / before,
            "enters": enters,
        }

    def _p50(self, pipelines: Sequence[Pipeline], calls: int) -> list[float]:
        """Return the median microseconds of a request to each, which take turns. Sessions are those of the past."""
        options = Options(20, Conditions(at=self._begin + 5_000))
        taken: list[list[float]] = [[] for _ in pipelines]
        for number in range(calls):
            session = [self._names[item] for item in self.model.sessions[number % len(self.model.sessions)].tolist()]
            turns = list(zip(pipelines, taken, strict=True))
            for pipeline, times in turns if number % 2 else turns[::-1]:  # the second one finds a warm cache
                begin = time.perf_counter_ns()
                pipeline.recommend(session, options)
                times.append((time.perf_counter_ns() - begin) / 1e3)
        return np.median(taken, axis=1).tolist()

    def _honest(self, span: int) -> Iterator[_Upload]:
        """Yield the clicks of honest visitors in a span of ms, in order: each an upload, 30 s apart in a visit."""
        rng = np.random.default_rng([self._seed, self.per_day, span])
        clicks, lengths = int(self.per_day * span / DAY_MS), session_lengths(ClickLaw(), self.per_day, rng)
        lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), clicks)) + 1]
        extra = round(_TO_A * span / _HOUR)
        sessions = draw_clicks(self._world, np.concatenate([lengths, session_lengths(ClickLaw(), extra, rng)]), rng)
        uploads = []
        for number, begin in enumerate((rng.random(len(sessions)) * span).astype(int).tolist()):
            names = [f"item-{item + 1}" for item in sessions[number].tolist()]
            if number >= len(lengths):
                names[0] = str(self._names[self._a])
            for step, name in enumerate(names):
                at = self._begin + begin + step * _BETWEEN
                if at < self._begin + span:
                    click = Click(f"visitor-{number}", name, at, arrived=at)
                    uploads.append(_Upload(at, f"visitor-{number}", [click]))
        yield from sorted(uploads, key=lambda upload: upload.at)

    def _collusion(self, shape: Shape, sessions: int, many: bool) -> Iterator[_Upload]:
        rng = np.random.default_rng([self._seed, sessions])
        length = shape.before + shape.with_a + shape.between + shape.clicks + shape.after
        visits = max(1, min(shape.visits, _MOST_CLICKS // (10 * sessions * length)))
        end = self._begin + _HOUR
        for number in range(sessions):
            start = number / sessions if shape.even else shape.begin + 0.001 * number / sessions
            session, origin = f"colluder-{number}", f"colluder-{number if many else 0}"
            pending, last = list[Click](), 0
            for visit in range(visits):
                at = self._begin + int(start * 0.9 * _HOUR) + (visit // 2 * length * shape.pace if shape.pace else 0)
                if visit % 2:
                    at += _APART if shape.apart else (length * shape.pace)
                for step, item in enumerate(self._items_of(shape, visits * number + visit, rng)):
                    arrived = min(at + step * shape.pace, end - 1)
                    ago = _APART * (step % 2) if shape.times == "alternating" else 0
                    ago = int(rng.integers(DAY_MS)) if shape.times == "day" else ago
                    click, last = Click(session, item, arrived - ago, arrived=arrived), max(last, arrived)
                    if shape.pace or shape.apart:
                        yield _Upload(arrived, origin, [click])
                    else:
                        pending.append(click)
            if pending:
                yield _Upload(last, origin, pending)
            if shape.forgets != "none" and (shape.forgets != "half" or number % 2):
                moment = end - 1 if shape.forgets == "end" else last
                yield _Upload(moment, origin, [Forget(session, moment)])

    def _items_of(self, shape: Shape, visit: int, rng: np.random.Generator) -> list[Any]:
        def filler() -> Any:
            if shape.filler == "invented":
                return f"invented-{rng.integers(1 << 40)}"
            among = {"popular": self._popular, "partners": self._partners, "A": [self._a]}.get(shape.filler)
            item = int(rng.integers(self.model.n_items)) if among is None else among[int(rng.integers(len(among)))]
            return self._names[item]

        target: Any = self._names[self._a]
        if shape.target == "new":
            target = "invented-B"
        elif shape.target == "popular":
            target = self._names[self._popular[visit % _POPULAR]]
        elif shape.target == "B":
            target = self._names[self._targets[shape.item]]
        return [
            *(filler() for _ in range(shape.before)), *([self._names[self._a]] if shape.with_a else ()),
            *(filler() for _ in range(shape.between)), *([target] * shape.clicks),
            *(filler() for _ in range(shape.after)),
        ]  # fmt: skip

    def _after(self, uploads: Sequence[_Upload]) -> _Observed:
        state = _Observed(self.model, self._limits)
        self._apply(state, OriginGuard(self._limits), uploads)
        return state

    def _apply(self, state: OnlineState, guard: OriginGuard, uploads: Sequence[_Upload]) -> None:
        processor = state.event_processor

        def usual(items: Sequence[int | str]) -> tuple[list[float], float]:
            return processor.guards.crowd.usual(processor.items.internal_ids_of(items).tolist())

        number = 0 if not state.position else int(state.position.split("-")[0])
        for begin in range(0, len(uploads), _CHUNK):
            entries = []
            for upload in uploads[begin : begin + _CHUNK]:
                clicks = [event for event in upload.events if isinstance(event, Click)]
                forgets = [event for event in upload.events if isinstance(event, Forget)]
                judged = guard.judged(guard.origin_of(upload.origin), clicks, usual, upload.at)
                events: list[Click | Forget] = [*judged, *forgets]
                for event in events:
                    number += 1
                    entries.append(LogEntry(event, f"{number:010d}-000000000000"))
            state.apply(entries)

    def _shares(
        self, state: _Observed, items: set[int], uploads: Sequence[_Upload] | None = None
    ) -> tuple[float, float]:
        """Return the share of honest clicks that was learned: of all, and of those on some items (1 without any)."""
        clicks = [click for upload in uploads or self.honest for click in upload.events if isinstance(click, Click)]
        ids = state.event_processor.items.internal_ids_of([click.item for click in clicks]).tolist()
        counts = Counter((key_of(click.session), item) for click, item in zip(clicks, ids, strict=True))
        learned = Counter({visit: min(count, state.learned[visit]) for visit, count in counts.items()})
        on_items = {visit for visit in counts if visit[1] in items}
        attacked = sum(counts[visit] for visit in on_items)
        share = sum(learned[visit] for visit in on_items) / attacked if attacked else 1.0
        return learned.total() / max(len(clicks), 1), share

    def _ranked(self, state: OnlineState, unknown: bool) -> np.ndarray:
        """Return all internal ids as unknown visitors see them at the end of the hour, or visitors of A."""
        pipeline, at = Pipeline.of(state.catalog(), self._encoder, self._index), self._begin + _HOUR
        clicks = [] if unknown else [self._a]
        queries = Sessions(np.array(clicks, np.int32), np.array([0, len(clicks)]), np.full(len(clicks), at, np.int64))
        return pipeline.rank(queries, pipeline.catalog.size, Conditions(at=at))[0][0]

    @staticmethod
    def _rank(ids: np.ndarray, item: int) -> int:
        found = np.flatnonzero(ids == item).tolist() if item >= 0 else []
        return 1 + (found[0] if found else len(ids))


def _resident() -> float:
    """Return the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
