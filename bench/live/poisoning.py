"""How far colluding sessions lift an item: its rank for the visitors of another item, and for unknown visitors.

Shops of 10^3 to 10^6 clicks a day: one trained model, whose past is the same sessions in more or less time, repeated
for a week. So every shop has the same items and ranker. Colluders click A and then B; B is far down the list of A.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.live.inputs import MORNING
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import DAY_MS, LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import Conditions
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex

COLLUDERS = (0, 1, 2, 5, 10, 20, 50, 100, 500)
PER_DAY = (1_000, 10_000, 100_000, 1_000_000)
_DAYS = 30  # of the log
_MAX_CLICKS = 3_000_000  # of a shop's past: at 10^6 clicks a day, three days
_BETWEEN_MS = 10_000  # clicks of a colluder, and colluders
_RANK_OF_A = 50  # by popularity
_RANK_OF_B = 548


@dataclass(frozen=True, slots=True)
class Attack:
    """What n colluding sessions achieved: ranks, and how many of their clicks were learned."""

    colluders: int
    visitors: int
    unknown: int
    learned: int


def trained_shop(folder: Path, say: Callable[[str], None]) -> Model:
    """Return a model of a generated log with 3,000 items and 111,000 clicks in 30 days."""
    log, dataset, bundle = folder / "clicks.csv", folder / "dataset", folder / "bundle"
    write_click_log(log, 3_000, 20_000, seed=0, days=_DAYS)
    for command in (["prepare", "clicks", log, dataset, "--test-days", "0"], ["train", dataset, bundle, "--no-refit"]):
        say(f"poisoning, {command[0]}")
        subprocess.run([sys.executable, "-m", "mtaw_fast", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
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
        config=model.config,
        weights=model.weights,
        ids=model.ids,
        popularity=model.popularity * repeats,
        memory=memory,
        ranker_net=model.ranker_net,
        clicked_at=moments,
        trends=TrendTables.build(repeated, moments, model.n_items, model.trends.settings, threads=2),
    )


class Shop:
    """One shop, attacked again and again from the same state."""

    def __init__(self, model: Model, limits: LearningLimits, rank: int = _RANK_OF_A) -> None:
        """Choose the items A and B. rank: how many items are more popular than A."""
        self._model, self._limits = model, limits
        self._encoder = NativeEncoder(model.config, model.weights)
        self._index = NativeIndex(model.item_vectors, model.scan)
        self._names = model.ids.external(np.arange(model.n_items, dtype=np.int32))
        self._begin = MORNING if model.learned_until is None else model.learned_until
        self.target = int(np.argsort(-model.popularity, kind="stable")[rank])
        ranked, _ = self._ranked(self._state(), self._begin)
        self.promoted = int(ranked[_RANK_OF_B - 1])

    def attack(self, colluders: int, quiet_ms: int = 0, repeats: int = 1) -> Attack:
        """Let so many sessions click A and then B, so many times, after so many milliseconds without any click."""
        state = self._state()
        moment = self._begin + quiet_ms
        clicks = []
        for colluder in range(colluders):
            for item in (self.target, self.promoted) * repeats:
                moment += _BETWEEN_MS
                clicks.append(Click(f"colluder-{colluder}", self._names[item], moment, arrived=moment))
        state.apply([LogEntry(click, f"{event:010d}-000000000000") for event, click in enumerate(clicks)])
        visitors, unknown = self._ranked(state, moment)
        return Attack(colluders, self._rank(visitors), self._rank(unknown), state.event_processor.learned_clicks)

    def _state(self) -> OnlineState:
        return OnlineState(self._model, self._limits)

    def _ranked(self, state: OnlineState, at: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids of all items as visitors of A see them, and unknown visitors."""
        pipeline = Pipeline.of(state.catalog(), self._encoder, self._index)
        queries = Sessions(np.array([self.target], np.int32), np.array([0, 1, 1]), np.array([at], np.int64))
        ids, _ = pipeline.rank(queries, self._model.n_items, Conditions(at=at))
        return ids[0], ids[1]

    def _rank(self, ids: np.ndarray) -> int:
        return 1 + int(np.flatnonzero(ids == self.promoted)[0])


def table(found: Mapping[tuple[int, int], Sequence[Attack]]) -> str:
    """Return Markdown: a row a shop, its ranks for the visitors of A and for unknown visitors."""
    counts = [attack.colluders for attack in next(iter(found.values()))]
    head = ["clicks a day", "before", "visitors", *(f"n = {count}" for count in counts)]
    lines = [head, ["---"] * len(head)]
    for (per_day, quiet), attacks in found.items():
        labels = [f"{per_day:,}", "a silent day" if quiet else "traffic"]
        lines.append([*labels, "of A", *(str(attack.visitors) for attack in attacks)])
        lines.append([*labels, "unknown", *(str(attack.unknown) for attack in attacks)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def curves(
    model: Model, limits: LearningLimits, colluders: Sequence[int] = COLLUDERS, per_day: Sequence[int] = PER_DAY
) -> dict[tuple[int, int], list[Attack]]:
    """Return the attacks by clicks a day and days of silence before."""
    attacks = {}
    for clicks in per_day:
        shop = Shop(at_rate(model, clicks), limits)
        for days in (0, 1):
            attacks[clicks, days] = [shop.attack(count, days * DAY_MS) for count in colluders]
    return attacks
