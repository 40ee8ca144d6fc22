"""P@20 of live clicks on the service, call by call, and whether it falls."""

from __future__ import annotations

import math
from statistics import mean

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.versions import current_in, version_of
from mtaw_fast.refreshing.config import RefreshConfig
from mtaw_fast.refreshing.service import ServiceError, counts_of
from mtaw_fast.refreshing.state import RefreshState

_CLICKS = 2000  # scored clicks of a reading
_FEWEST, _KEPT = 3, 168  # readings that make the usual one


def live_drift(config: RefreshConfig, state: RefreshState) -> str | None:
    """Read what the service counts for the served bundle; return why it must be trained again, or None.

    It must if P@20 of the clicks since the last reading is below the usual one by more than `train.drift` and twice its
    standard error, once for each bundle. A service that does not answer is not read.
    """
    current = current_in(config.bundles)
    if not config.service or current is None:
        return None
    try:
        counts = counts_of(config.service)
    except ServiceError:
        return None
    version = version_of(Bundle.load(config.bundles / current).manifest)
    scored, hits = counts.scored.get(version, 0), counts.hits.get(version, 0)
    before = state.live.get("before")
    now = {"version": version, "scored": scored, "hits": hits}
    if before is None or before["version"] != version or scored < before["scored"]:
        state.live["before"] = now
        return None
    count = scored - before["scored"]
    if count < _CLICKS:
        return None
    state.live["before"] = now
    share = (hits - before["hits"]) / count
    readings = state.live.setdefault("readings", [])
    usual = mean(readings) if len(readings) >= _FEWEST else share
    readings.append(share)
    del readings[:-_KEPT]
    least = usual - max(config.train.drift / 100, 2 * math.sqrt(usual * (1 - usual) / count))
    if share >= least or any(run.get("drift") and run["incumbent"] == current for run in state.runs):
        return None
    return f"P@20 of live clicks fell to {share:.1%}, usually {usual:.1%}"
