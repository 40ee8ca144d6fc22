"""What times and types of clicks cost: a bundle with them against the same bundle without, interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.workload import Workload
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.ranker_net import type_feature_names
from mtaw_fast.recommender import Recommender

_CHECKED = 32
_AFTER_MS = 60_000  # of a request, after the last click that the bundle knows
_TYPES = ClickTypes(("view", "cart", "purchase"))


def without_times(workload: Workload, folder: Path) -> Workload:
    """Return a workload of the same bundle without trends, and with the ranker's other features alone."""
    model = workload.bundle.model
    assert model.ranker_net is not None
    names = feature_names()
    arrays = {
        name: np.ascontiguousarray(array[: len(names)]) if name in ("mean", "scale", "linear", "w1") else array
        for name, array in model.ranker_net.arrays().items()
    }
    net = RankerNet(names, **arrays)
    return _saved(workload, replace(model, trends=None, context=None, clicked_at=None, ranker_net=net), folder)


def with_types(workload: Workload, folder: Path) -> Workload:
    """Return a workload of the same bundle whose ranker also reads three types, with small random weights."""
    net, names = workload.bundle.model.ranker_net, type_feature_names(_TYPES)
    assert net is not None
    rng = np.random.default_rng(0)
    wider: dict[str, Any] = {
        name: np.concatenate([array, 0.1 * rng.normal(size=(len(names), *array.shape[1:])).astype(np.float32)])
        for name, array in net.arrays().items()
        if name in ("mean", "scale", "linear", "w1")
    }
    net = replace(net, features=(*net.features, *names), **wider)
    return _saved(workload, replace(workload.bundle.model, ranker_net=net), folder)


def _saved(workload: Workload, model: Model, folder: Path) -> Workload:
    dataset = {"name": workload.source, "fingerprint": ""}
    return replace(workload, bundle=Bundle.save(folder, model, metrics={}, dataset=dataset))


def times_case(workload: Workload, plain: Workload, k: int, plan: Plan) -> Case:
    """Compare `recommend` of a bundle with times and of `without_times`."""
    theirs, sessions = _native(plain), _sessions(workload)
    peer = Contender("without-times", lambda call: theirs.recommend(sessions[call % len(sessions)], k))
    return _case("recommend-times", workload, workload, _now(workload), None, peer, k, plan)


def types_case(workload: Workload, typed: Workload, k: int, plan: Plan) -> Case:
    """Compare `recommend` with types of `with_types`, and without of the bundle itself."""
    theirs, sessions, now = _native(workload), _sessions(workload), _now(workload)
    rng = np.random.default_rng(1)
    types = [[_TYPES.names[code] for code in rng.integers(0, len(_TYPES), len(clicks))] for clicks in sessions]
    peer = Contender("without-types", lambda call: theirs.recommend(sessions[call % len(sessions)], k, at=now))
    return _case("recommend-types", workload, typed, now, types, peer, k, plan)


def _case(
    name: str,
    workload: Workload,
    richer: Workload,
    at: int,
    types: Sequence[Sequence[str]] | None,
    peer: Contender,
    k: int,
    plan: Plan,
) -> Case:
    """Return the case of the richer bundle, whose answers must be the composed path's."""
    sessions, ours = _sessions(workload), _native(richer)
    composed = Recommender.load(richer.bundle.folder, "native", "numpy")

    def ask(recommender: Recommender, call: int) -> Any:
        session = call % len(sessions)
        return recommender.recommend(sessions[session], k, at=at, types=None if types is None else types[session])

    def check(contender: Contender) -> str | None:
        for number in range(min(_CHECKED, len(sessions)) if contender.name == "ours" else 0):
            answer, truth = contender.run(number), ask(composed, number)
            if answer.items != truth.items or answer.scores.tobytes() != truth.scores.tobytes():
                return f"session {number} is not ranked as by the composed path"
        return None

    params = {**workload.params, "k": k, "batch": 1, "threads": 1}
    params |= {"encoder": ours.encoder.name, "index": ours.index.name}
    return Case(name, params, "latency_us", Contender("ours", lambda call: ask(ours, call)), [peer], check, plan)


def _native(workload: Workload) -> Recommender:
    return Recommender.load(workload.bundle.folder, "native", "native")


def _sessions(workload: Workload) -> list[list[Any]]:
    return [workload.bundle.ids.external(clicks) for clicks in workload.serve]


def _now(workload: Workload) -> int:
    assert workload.bundle.model.clicked_at is not None
    return int(workload.bundle.model.clicked_at.max()) + _AFTER_MS
