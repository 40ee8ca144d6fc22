"""The time from events sent to one worker until another worker ranks with them."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from bench.live.inputs import Shop
from bench.live.service_client import ServiceClient, until
from bench.serving.service_process import Service
from mtaw_fast.errors import MtawError

K = 20
_VISITORS = 10  # who click the same pair of items
_PATIENCE = 10.0


def freshness(made: Shop, bundle: Path, work: Path, trials: int, seed: int = 0) -> np.ndarray:
    """Return float64[trials]: seconds from POST /v1/events until another worker ranks with them.

    That worker then has the second item of the clicked pair in the top 20 of the first.

    Raises
    ------
    MtawError
        If it never does.
    """
    rng = np.random.default_rng(seed)
    # Items with few past clicks, so that a few visitors matter.
    rare = rng.permutation(np.argsort(made.model.popularity, kind="stable")[: made.model.n_items // 2])
    taken = np.empty(trials)
    with Service(bundle, work / "service.log", 2, ["--learn", str(work / "learned")]) as service:
        first, second = sorted(service.worker_pids())
        with ServiceClient(service, first) as writer, ServiceClient(service, second) as reader:
            for trial in range(trials):
                one, other = (rare[2 * trial : 2 * trial + 2] + 1).tolist()
                if other in reader.recommend([one], K)["items"]:
                    raise MtawError(f"fresh: item {other} is in the top {K} of {one} before anybody clicked them")
                visits = [f"t{trial}-{visitor}" for visitor in range(_VISITORS)]
                events = [{"session": name, "item": item} for name in visits for item in (one, other)]
                begin = time.perf_counter()
                writer.request("POST", "/v1/events", {"events": events})
                until(
                    lambda: other in reader.recommend([one], K)["items"],  # noqa: B023 (called at once)
                    f"fresh: item {other} did not come into the top {K} of {one}",
                    _PATIENCE,
                )
                taken[trial] = time.perf_counter() - begin
    return taken
