"""What the types of clicks cost: a bundle whose ranker reads three against the same bundle without, interleaved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.workload import Workload
from bench.throughput.times_case import AFTER_MS, CHECKED
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.memory.type_features import type_feature_names
from mtaw_fast.recommender import Recommender

_TYPES = ClickTypes(("view", "cart", "purchase"))


def with_types(workload: Workload, folder: Path) -> Workload:
    """Return a workload of the same bundle whose ranker also reads three types, with small random weights."""
    model, rng = workload.bundle.model, np.random.default_rng(0)
    net, names = model.ranker_net, type_feature_names(_TYPES)
    assert net is not None
    n_added = len(names)

    def wider(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, 0.1 * rng.normal(size=(n_added, *array.shape[1:])).astype(np.float32)])

    typed_net = replace(
        net, features=(*net.features, *names), mean=wider(net.mean), scale=wider(net.scale), linear=wider(net.linear),
        w1=wider(net.w1),
    )  # fmt: skip
    typed = replace(model, ranker_net=typed_net)
    dataset = {"name": workload.source, "fingerprint": ""}
    return replace(workload, bundle=Bundle.save(folder, typed, metrics={}, dataset=dataset))


def types_case(workload: Workload, typed: Workload, k: int, plan: Plan) -> Case:
    """Compare `recommend` with types of `with_types` and without of the bundle itself; the answer must be the composed
    path's."""
    bundle = workload.bundle
    assert bundle.model.clicked_at is not None
    now = int(bundle.model.clicked_at.max()) + AFTER_MS
    sessions = [bundle.ids.external(clicks) for clicks in workload.serve]
    rng = np.random.default_rng(1)
    types = [[_TYPES.names[code] for code in rng.integers(0, len(_TYPES), len(clicks))] for clicks in sessions]
    ours, theirs = (Recommender.load(side.bundle.folder, "native", "native") for side in (typed, workload))
    composed = Recommender.load(typed.bundle.folder, "native", "numpy")

    def run(call: int) -> Any:
        session = call % len(sessions)
        return ours.recommend(sessions[session], k, at=now, types=types[session])

    def check(contender: Contender) -> str | None:
        for number in range(min(CHECKED, len(sessions)) if contender.name == "ours" else 0):
            answer, truth = contender.run(number), composed.recommend(sessions[number], k, at=now, types=types[number])
            if answer.items != truth.items or answer.scores.tobytes() != truth.scores.tobytes():
                return f"session {number} is not ranked as by the composed path"
        return None

    params: dict[str, Any] = {**workload.params, "k": k, "batch": 1, "threads": 1}
    return Case(
        "recommend-types",
        {**params, "encoder": ours.encoder.name, "index": ours.index.name},
        "latency_us",
        Contender("ours", run),
        [Contender("without-types", lambda call: theirs.recommend(sessions[call % len(sessions)], k, at=now))],
        check,
        plan,
    )
