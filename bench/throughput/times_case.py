"""What times cost: a bundle with them against the same bundle without, interleaved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.workload import Workload
from mtaw_fast.bundle import Bundle
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import RankerNet
from mtaw_fast.recommender import Recommender

CHECKED = 32
AFTER_MS = 60_000  # of a request, after the last click that the bundle knows


def without_times(workload: Workload, folder: Path) -> Workload:
    """Return a workload of the same bundle without trends, and with the ranker's other features alone."""
    model = workload.bundle.model
    assert model.ranker_net is not None
    names = feature_names()
    arrays = {
        name: np.ascontiguousarray(array[: len(names)]) if name in ("mean", "scale", "linear", "w1") else array
        for name, array in model.ranker_net.arrays().items()
    }
    plain = replace(model, trends=None, context=None, clicked_at=None, ranker_net=RankerNet(names, **arrays))
    dataset = {"name": workload.source, "fingerprint": ""}
    return replace(workload, bundle=Bundle.save(folder, plain, metrics={}, dataset=dataset))


def times_case(workload: Workload, plain: Workload, k: int, plan: Plan) -> Case:
    """Compare `recommend` of a bundle with times and of `without_times`; the answer must be the composed path's."""
    bundle = workload.bundle
    assert bundle.model.clicked_at is not None
    now = int(bundle.model.clicked_at.max()) + AFTER_MS
    sessions = [bundle.ids.external(clicks) for clicks in workload.serve]
    ours, theirs = (Recommender.load(side.bundle.folder, "native", "native") for side in (workload, plain))
    composed = Recommender.load(bundle.folder, "native", "numpy")

    def check(contender: Contender) -> str | None:
        for number in range(min(CHECKED, len(sessions)) if contender.name == "ours" else 0):
            answer, truth = contender.run(number), composed.recommend(sessions[number], k, at=now)
            if answer.items != truth.items or answer.scores.tobytes() != truth.scores.tobytes():
                return f"session {number} is not ranked as by the composed path"
        return None

    params: dict[str, Any] = {**workload.params, "k": k, "batch": 1, "threads": 1}
    return Case(
        "recommend-times",
        {**params, "encoder": ours.encoder.name, "index": ours.index.name},
        "latency_us",
        Contender("ours", lambda call: ours.recommend(sessions[call % len(sessions)], k, at=now)),
        [Contender("without-times", lambda call: theirs.recommend(sessions[call % len(sessions)], k))],
        check,
        plan,
    )
