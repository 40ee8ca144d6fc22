"""Inputs of the cases: a generated shop with items that belong together, a bundle of its past, and later visitors.

Axes: N items, S sessions, T clicks, E events, F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.harness.workload import random_ranker, random_weights
from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import ClickLaw, generate, make_world
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits

# Short visits, as in shops: about 4 clicks on average.
LAW = ClickLaw(length_exponent=2.2, max_length=20)
CLICKS_A_SESSION = 3.98
MORNING = 1_764_150_000_000  # Unix ms of the first event
ALL = LearningLimits(item_floor=1_000_000, pair_floor=1_000)  # every click: events come far faster than in the past
_OPEN = 50  # sessions that run at the same time
_STEP_MS = 100  # between two events: a session's clicks are about 5 s apart
_WEIGHTS = {
    "next_dec": 1.0, "fwd_dec": 0.5, "ses_dec": 0.5, "rec_dec": 0.3, "clicks": 0.1, "own_back": -0.2,
}  # fmt: skip
_HIDDEN = 0.02  # weights of the ranker's small network, so that the linear part decides
_SAMPLE = 500  # sessions used to scale the ranker's features


@dataclass(frozen=True, slots=True, eq=False)
class Shop:
    """A model of the past over N items with the external ids 1..N, and the sessions after it, by internal ids."""

    model: Model
    later: Sessions

    def saved(self, folder: Path) -> Path:
        """Save the model as a bundle in `folder`; return `folder`."""
        Bundle.save(folder, self.model, metrics={}, dataset={"name": "synthetic", "fingerprint": ""})
        return folder


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Events of sessions that run at the same time: handles int64[E], internal items int32[E], times int64[E] in ms."""

    handles: np.ndarray
    items: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.items)

    def clicks(self, name: str = "v", ids: bool = False) -> list[Click]:
        """Return the events. The sessions' ids start with `name`; so do the events' if they get `ids`."""
        return [
            Click(f"{name}{handle}", item + 1, time, None, f"{name}-{event}" if ids else None)
            for event, (handle, item, time) in enumerate(
                zip(self.handles.tolist(), self.items.tolist(), self.times.tolist(), strict=True)
            )
        ]


def make_shop(n_items: int, past_clicks: int, later_clicks: int, seed: int = 0) -> Shop:
    """Return a shop with about `past_clicks` past clicks and enough sessions for `later_clicks` events after them."""
    n_past = math.ceil(past_clicks / CLICKS_A_SESSION)
    n_later = math.ceil(1.1 * later_clicks / CLICKS_A_SESSION) + 10 * _OPEN
    log = generate(n_items, n_past + n_later + 1, seed, LAW, test_fraction=1 / (n_past + n_later + 1)).train
    return Shop(_model(n_items, log.slice(0, n_past), seed), log.slice(n_past, len(log)))


def stream(sessions: Sessions, n_events: int, seed: int = 0, begin: int = MORNING, step: int = _STEP_MS) -> Stream:
    """Return the first `n_events` clicks of `sessions`: fifty run at the same time, with `step` ms between two clicks.

    Raises ValueError if the sessions have fewer.
    """
    rng = np.random.default_rng([seed, 3])
    offsets = sessions.offsets.tolist()
    alive, next_session = list(range(_OPEN)), _OPEN
    positions = offsets[:_OPEN]
    handles, clicks = np.empty(n_events, np.int64), np.empty(n_events, np.int64)
    slots = rng.integers(0, _OPEN, n_events).tolist()
    for event, slot in enumerate(slots):
        session = alive[slot]
        handles[event], clicks[event] = session, positions[slot]
        positions[slot] += 1
        if positions[slot] == offsets[session + 1]:
            if next_session == len(sessions):
                raise ValueError(f"{len(sessions)} sessions do not give {n_events} events; draw more")
            alive[slot], positions[slot] = next_session, offsets[next_session]
            next_session += 1
    return Stream(handles, sessions.items[clicks], begin + step * np.arange(n_events, dtype=np.int64))


def queries(sessions: Sessions, count: int) -> Sessions:
    """Return the first `count` sessions without their last clicks."""
    return Sessions.from_lists([clicks[:-1] for clicks in sessions.slice(0, count)])


def portions(events: Sequence[Click], size: int) -> Iterator[Sequence[Click]]:
    """Return `events` in lists of `size`."""
    return (events[begin : begin + size] for begin in range(0, len(events), size))


def _model(n_items: int, past: Sessions, seed: int) -> Model:
    config = Config()
    rng = np.random.default_rng([seed, 4])
    weights = random_weights(config, make_world(n_items, seed, LAW).cluster, rng)
    memory = MemoryTables.build(past, n_items)
    return Model.of(
        config=config,
        weights=weights,
        ids=ItemIds.from_list(range(1, n_items + 1)),
        popularity=np.bincount(past.items, minlength=n_items).astype(np.int64),
        memory=memory,
        ranker_net=_ranker(memory, queries(past, _SAMPLE), rng),
    )


def _ranker(memory: MemoryTables, query_sessions: Sessions, rng: np.random.Generator) -> RankerNet:
    """Return a ranker of the size of a trained one, with fixed linear weights that favor items of the same sessions.

    Features are standardized by their values on the candidates of `query_sessions`.
    """
    names = feature_names()
    ids, values = memory.queries(memory.n_items, query_settings(Config(), timed=False)).features(
        query_sessions.items.copy(), query_sessions.offsets[:-1].copy(), query_sessions.offsets[1:].copy()
    )
    valid = values[ids >= 0]
    deviation = valid.std(axis=0)
    return random_ranker(
        names, rng, _HIDDEN,
        mean=valid.mean(axis=0).astype(np.float32),
        scale=np.where(deviation > 0, 1 / np.maximum(deviation, 1e-6), 0).astype(np.float32),
        linear=np.array([_WEIGHTS.get(name, 0.0) for name in names], dtype=np.float32),
    )  # fmt: skip
