"""The metrics of the service: what is counted, its cells in a worker's row, and the sums in Prometheus' format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from typing import Any

import numpy as np

from mtaw_fast.experiment.drift import GROUPS
from mtaw_fast.rules.placement import DEFAULT, MAX_PLACEMENTS, Placed
from mtaw_fast.service.observability.counters import (
    FIRST,
    KINDS,
    OTHER,
    VERSION,
    VERSION_CELLS,
    Counters,
    Counts,
    VersionCounters,
    version_text,
)
from mtaw_fast.service.resources import SharedMemory
from mtaw_fast.service.settings import MAX_BUNDLES

CONTENT_TYPE = "text/plain; version=0.0.4"
ROUTES = (
    "/v1/recommend", "/v1/recommend/batch", "/v1/similar", "/v1/items", "/v1/sessions/{id}/click",
    "/v1/sessions/{id}", "/v1/events", "/v1/feedback", "/v1/bundle", "/admin/reload", "/admin/compact",
    "/admin/refusals", "/admin/items", "/admin/items/new", "/admin/items/add", "/admin/items/remove",
    "/admin/items/hide", "/admin/items/show", "/admin/placements", "/admin/placements/{name}", "/healthz", "/readyz",
    "/metrics", "/openapi.json", "/docs", "/watch", "/experiment", "/admin/experiment", "/", "other",
)  # fmt: skip
# 0: the client left. Any other status counts as 500.
STATUSES = (200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 413, 500, 503, 0)
_STAGES_OF_RANKINGS = "lookup", "encode", "retrieve", "memory", "assemble"
STAGES = ("queue", *_STAGES_OF_RANKINGS, "batched")
_REQUEST_BOUNDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_STAGE_BOUNDS = (
    2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    labels: name and values of each label. bounds: upper bounds of a histogram in seconds; its cells are one for each
    bound, one for larger values, and the sum in nanoseconds. per_unit: what a cell holds for a value of 1.
    """

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()
    per_unit: int = 1

    @property
    def series(self) -> list[tuple[str, ...]]:
        """The label values of each series."""
        return list(product(*(values for _, values in self.labels)))

    @property
    def cells(self) -> int:
        """Number of cells of a series."""
        return len(self.bounds) + 2 if self.bounds else 1


VALUE_CELLS = 100  # that a value of 1 counts for
DRIFT_CELLS = 1_000_000  # likewise, a drift of 1
SHARE_CELLS = 1000  # likewise, a share of 1
REFUSALS = (
    "duplicate", "late", "session_full", "bot", "flood", "crowd", "catalog_full", "unproven", "wrong_type", "trained",
    "wrong_vector", "origin", "origin_new",
)  # fmt: skip
_ROUTE = ("route", ROUTES)
# Each of several bundles that learn has its own series. The label is the bundle's number, and its name in the text.
_ARM = ("bundle", tuple(map(str, range(MAX_BUNDLES))))
FAMILIES = (
    Family(
        "mtaw_requests_total", "counter", "Requests by route and status.",
        (_ROUTE, ("status", tuple(map(str, STATUSES)))),
    ),
    Family("mtaw_request_seconds", "histogram", "From parsed request to last byte.", (_ROUTE,), _REQUEST_BOUNDS),
    Family(
        "mtaw_stage_seconds", "histogram", "Stages of rankings; batched: one pass for several.", (("stage", STAGES),),
        _STAGE_BOUNDS,
    ),
    Family("mtaw_clicks_total", "counter", "Clicks in the ranked sessions."),
    Family("mtaw_unknown_clicks_total", "counter", "Of those, clicks on unknown items."),
    Family("mtaw_answers_total", "counter", "Ranked sessions."),
    Family("mtaw_fallback_answers_total", "counter", "Of those, sessions without a known click."),
    Family("mtaw_unknown_placements_total", "counter", "Lists for placements that are not kept."),
    Family("mtaw_batched_answers_total", "counter", "Of those, sessions ranked in one pass with others that waited."),
    Family(
        "mtaw_rejected_total", "counter", "Requests refused under load.",
        (("reason", ("overloaded", "deadline_passed")),),
    ),
    Family("mtaw_reloads_total", "counter", "New bundles found.", (("result", ("loaded", "refused")),)),
    Family("mtaw_worker_starts_total", "counter", "Workers started."),
    Family("mtaw_queue_length", "gauge", "Waiting requests."),
    Family("mtaw_sessions", "gauge", "Stored sessions in memory."),
    Family("mtaw_sessions_bytes", "gauge", "Memory of the stored sessions."),
    Family("mtaw_events_total", "counter", "Events written to the log."),
    Family("mtaw_events_refused_total", "counter", "Events that could not be written."),
    Family(
        "mtaw_busiest_origin_share", "gauge", "Share of today's open clicks that came from one origin; 0: few clicks.",
        per_unit=SHARE_CELLS,
    ),
    Family("mtaw_feedback_total", "counter", "Feedback requests that were stored."),
    Family("mtaw_feedback_refused_total", "counter", "Feedback requests that could not be stored."),
    Family("mtaw_learned_clicks", "gauge", "Clicks learned since the served bundle was written.", (_ARM,)),
    Family("mtaw_not_learned_clicks", "gauge", "Clicks that were not learned.", (_ARM, ("reason", REFUSALS))),
    Family("mtaw_delta_clicks", "gauge", "Learned clicks that are not in the bundle's tables yet.", (_ARM,)),
    Family("mtaw_delta_bytes", "gauge", "Memory of those clicks in each worker.", (_ARM,)),
    Family("mtaw_new_items", "gauge", "Items added since the served bundle was written.", (_ARM,)),
    Family("mtaw_damaged_records", "gauge", "Damaged records of the log that were skipped.", (_ARM,)),
    Family("mtaw_learning_lag_events", "gauge", "Events of the log that are not learned yet, about.", (_ARM,)),
    Family(
        "mtaw_learning_lag_seconds", "gauge", "Seconds for which the oldest of them has waited, about.", (_ARM,),
        per_unit=1000,
    ),
    Family("mtaw_clock_jump_seconds", "gauge", "Jump of the log's times that is not confirmed.", (_ARM,)),
    Family("mtaw_learning_stopped", "gauge", "1 while the log cannot be read.", (_ARM,)),
    *(
        Family(
            f"mtaw_click_{feature}_total", "counter", f"Clicks after another one by group of {feature}.",
            (("group", tuple(map(str, range(groups)))),),
        )
        for feature, groups in GROUPS.items()
    ),
    Family(
        "mtaw_drift", "gauge", "Population stability index of recent clicks against the training; 0: too few.",
        (("feature", tuple(GROUPS)),), per_unit=DRIFT_CELLS,
    ),
    Family("mtaw_drift_clicks", "gauge", "Clicks of that window.", (("feature", tuple(GROUPS)),)),
    Family(
        "mtaw_drift_threshold", "gauge", "Drift that is an alarm.", (("feature", tuple(GROUPS)),), per_unit=DRIFT_CELLS
    ),
)  # fmt: skip


def _layout() -> tuple[dict[tuple[str, ...], int], int]:
    """Return the first cell of each series, by family name and label values, and the number of cells."""
    first_cells, cell = {}, 0
    for family in FAMILIES:
        for values in family.series:
            first_cells[family.name, *values] = cell
            cell += family.cells
    return first_cells, cell


_FIRST_CELL, WIDTH = _layout()
GAUGES = tuple(
    _FIRST_CELL[family.name, *values] for family in FAMILIES if family.kind == "gauge" for values in family.series
)
# Measured on the counts of all workers, so they are not added up where each worker sets them.
DRIFT_NAMES = ("mtaw_drift", "mtaw_drift_clicks", "mtaw_drift_threshold")
DRIFT_GAUGES = frozenset(_FIRST_CELL[name, feature] for name in DRIFT_NAMES for feature in GROUPS)
_STATUS_AT = {status: offset for offset, status in enumerate(STATUSES)}
_REQUESTS_AT = {route: _FIRST_CELL["mtaw_requests_total", route, str(STATUSES[0])] for route in ROUTES}
_REQUEST_AT = {route: _FIRST_CELL["mtaw_request_seconds", route] for route in ROUTES}
_STAGE_AT = {stage: _FIRST_CELL["mtaw_stage_seconds", stage] for stage in STAGES}
_ANSWERS_AT, _CLICKS_AT = _FIRST_CELL["mtaw_answers_total",], _FIRST_CELL["mtaw_clicks_total",]
_UNKNOWN_AT = _FIRST_CELL["mtaw_unknown_clicks_total",]


class Metrics:
    """A worker's own counts, and the sums over all workers as text.

    arms: the names of the bundles, if several are served. first_worker: whether it sets the gauges that are the same in
    every worker.
    """

    def __init__(self, counters: Counters, row: int | None = None, arms: Sequence[str] = ()) -> None:
        self.counters, self._arms = counters, arms
        self.first_worker = row == 0
        self._own = counters.own[FIRST:]
        self._by_version = VersionCounters(counters.own[-VERSION_CELLS:])
        self._by_placement = VersionCounters(counters.own[-2 * VERSION_CELLS : -VERSION_CELLS])
        self._noted: list[tuple[float, Mapping[str, float]]] = []  # of rankings: `stages`

    @classmethod
    def open(cls, memory: SharedMemory, rows: int, row: int | None = None, arms: Sequence[str] = ()) -> Metrics:
        """Map what `make` made. row: the worker's own. arms: see `Metrics`."""
        return cls(Counters(memory, rows, WIDTH, row), row, arms)

    @staticmethod
    def make(rows: int) -> SharedMemory:
        """Return the memory of the counters of `rows` workers. Raises MtawError if there is not enough memory."""
        return Counters.make(rows, WIDTH)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        cells = self._own
        cells[_REQUESTS_AT[route] + _STATUS_AT.get(status, _STATUS_AT[500])] += 1
        _observe(cells, _REQUEST_AT[route], _REQUEST_BOUNDS, seconds)

    def stage(self, stage: str, microseconds: float) -> None:
        """Count a stage of a ranking."""
        _observe(self._own, _STAGE_AT[stage], _STAGE_BOUNDS, microseconds * 1e-6)

    def stages(self, waited: float, timings: Mapping[str, float]) -> None:
        """Note the stages of a ranking that was not batched; `tick` counts those of many together, in less time.

        waited: seconds in the queue. timings: microseconds by stage.
        """
        self._noted.append((waited, timings))

    def tick(self) -> None:
        """Count what was noted. Call it on the event loop, now and then."""
        noted, self._noted = self._noted, []
        self._observe_all("queue", [waited * 1e6 for waited, _ in noted])
        for stage in _STAGES_OF_RANKINGS:
            self._observe_all(stage, [timings[stage] for _, timings in noted if stage in timings])

    def _observe_all(self, stage: str, microseconds: list[float]) -> None:
        if not microseconds:
            return
        cells, first = self._own, _STAGE_AT[stage]
        buckets = np.searchsorted(_STAGE_BOUNDS, np.array(microseconds) * 1e-6)
        for bucket, count in enumerate(np.bincount(buckets).tolist()):
            cells[first + bucket] += count
        cells[first + len(_STAGE_BOUNDS) + 1] += int(sum(microseconds) * 1e3)

    def ranked(self, clicks: int, unknown: int) -> None:
        """Count a ranked session, its clicks, and those of them that are unknown."""
        cells = self._own
        cells[_ANSWERS_AT] += 1
        cells[_CLICKS_AT] += clicks
        cells[_UNKNOWN_AT] += unknown

    def add(self, name: str, *labels: str, by: int = 1) -> None:
        """Add `by` to a counter."""
        self._own[_FIRST_CELL[name, *labels]] += by

    def set(self, name: str, value: int, *labels: str) -> None:
        """Set a gauge."""
        self._own[_FIRST_CELL[name, *labels]] = value

    def serve(self, version: str) -> None:
        """Give a bundle version a slot for its counts. The versions that this worker serves keep theirs."""
        for served in map(version_text, filter(None, self.counters.own[VERSION:FIRST])):
            if self._by_version.knows(served):
                self._by_version.serve(served)  # now it is the latest again
        self._by_version.serve(version)

    def count_by_version(self, version: str, kind: str, by: int = 1) -> None:
        """Add `by` to one of `counters.KINDS` for a bundle version that this worker serves."""
        self._by_version.add(version, kind, by)

    def count_first_by_version(self, version: str, counts: Mapping[str, int]) -> None:
        """Count by kind what a client reports about a version; one that no worker has served counts as `other`."""
        if not self._by_version.knows(version) and version in self.counters.by_version():
            self.serve(version)
        for kind, count in counts.items():
            self._by_version.add(version, kind, count)

    def count_placed(self, placed: Placed) -> None:
        """Count a list of a placement. Those that are not kept are one, so that clients cannot name more."""
        if not placed.known:
            self.add("mtaw_unknown_placements_total")
        key = _placement_key(placed.placement if placed.known else DEFAULT)
        if not self._by_placement.knows(key):
            self._by_placement.serve(key)
        self._by_placement.add(key, "answers")

    def placement_lines(self, names: Iterable[str]) -> Iterator[str]:
        """Yield the lines of the lists by placement. names: of those that are kept."""
        labels = {_placement_key(name): name for name in (*names, DEFAULT)}
        counts: Counter[str] = Counter()
        for key, kinds in self.counters.by_placement().items():
            counts[labels.get(key, OTHER)] += kinds[KINDS.index("answers")]
        values = [({"placement": name}, count) for name, count in sorted(counts.items())]
        yield from series("mtaw_placement_answers_total", "counter", "Lists by placement.", values)

    def group_counts(self, feature: str) -> np.ndarray:
        """Return int64[groups]: the clicks of all workers by group of a feature (`experiment.drift`)."""
        sums, first = self.counters.sums(), _FIRST_CELL[f"mtaw_click_{feature}_total", "0"]
        return np.array(sums[first : first + GROUPS[feature]], np.int64)

    def text(self) -> str:
        """Return all metrics, summed over the workers, in Prometheus' text format."""
        sums = self.counters.sums()
        lines = [line for family in FAMILIES for line in _lines(family, sums, self._arms)]
        workers = [({"version": version}, count) for version, count in sorted(self.workers().items())]
        lines += series("mtaw_workers", "gauge", "Live workers by the bundle version they serve.", workers)
        lines += _version_lines(self.counters.by_version())
        return "\n".join(lines) + "\n"

    def workers(self) -> dict[str, int]:
        """Return the number of live workers by the bundle version that they serve."""
        return dict(Counter(self.counters.live_versions()))


@lru_cache(maxsize=2 * MAX_PLACEMENTS)
def _placement_key(name: str) -> str:
    """Return what stands for a placement where counts by version have 16 hex digits."""
    return blake2b(name.encode(), digest_size=8).hexdigest()


def _observe(cells: memoryview, first: int, bounds: Sequence[float], seconds: float) -> None:
    cells[first + bisect_left(bounds, seconds)] += 1
    cells[first + len(bounds) + 1] += int(seconds * 1e9)


def _lines(family: Family, sums: list[int], arms: Sequence[str]) -> Iterator[str]:
    yield from head(family.name, family.kind, family.help)
    for values in family.series:
        labels = {name: value for (name, _), value in zip(family.labels, values, strict=True)}
        if _ARM in family.labels:
            arm = int(labels.pop("bundle"))
            if arm >= max(len(arms), 1):
                continue
            if arms:
                labels["bundle"] = arms[arm]
        first = _FIRST_CELL[family.name, *values]
        counts = sums[first : first + family.cells]
        if not family.bounds:
            # Without the statuses that a route never gave: they would be most of the text. Other counters begin at 0:
            # Prometheus sees no increase in a series that begins with its first event.
            if counts[0] or not labels.keys() - {"bundle"} or (family.kind == "counter" and "status" not in labels):
                value = counts[0] if family.per_unit == 1 else counts[0] / family.per_unit
                yield f"{family.name}{_braced(labels)} {value}"
            continue
        total = 0
        for bound, count in zip((*map(_plain, family.bounds), "+Inf"), counts, strict=False):
            total += count
            yield f"{family.name}_bucket{_braced({**labels, 'le': bound})} {total}"
        yield f"{family.name}_sum{_braced(labels)} {counts[-1] / 1e9:.9f}"
        yield f"{family.name}_count{_braced(labels)} {total}"


def _plain(bound: float) -> str:
    return f"{bound:.6f}".rstrip("0").rstrip(".")


def _braced(labels: Mapping[str, str]) -> str:
    pairs = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items()]
    return f"{{{','.join(pairs)}}}" if pairs else ""


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
_BY_VERSION = (
    ("mtaw_bundle_answers_total", "answers", "Ranked sessions by bundle version."),
    ("mtaw_bundle_fallback_answers_total", "fallback", "Of those, sessions without a known click."),
    ("mtaw_ranked_items_total", "ranked_items", "Items in single rankings."),
    ("mtaw_new_ranked_items_total", "new_items", "Of those, items that the training did not know."),
    ("mtaw_scored_clicks_total", "scored", "Clicks that scored the list before them."),
    ("mtaw_hit_clicks_total", "hits", "Of those, clicks on one of the list's first 20 items."),
)
_REPORTED = ("shown", "clicked", "carted", "bought")


def _version_lines(sums: Counts) -> Iterator[str]:
    """Yield the lines of the counts by bundle version."""
    by_version = {version: dict(zip(KINDS, counts, strict=True)) for version, counts in sorted(sums.items())}
    for name, kind, meaning in _BY_VERSION:
        yield from series(
            name, "counter", meaning, (({"version": version}, counts[kind]) for version, counts in by_version.items())
        )
    reported = (
        ({"version": version, "what": outcome}, counts[outcome])
        for version, counts in by_version.items()
        for outcome in _REPORTED
    )
    yield from series(
        "mtaw_feedback_items_total", "counter", "Reported items of rankings, by what became of them.", reported
    )
    values = (({"version": version}, f"{counts['value'] / VALUE_CELLS:.2f}") for version, counts in by_version.items())
    yield from series(
        "mtaw_feedback_value_total", "counter", "Value of the items that were reported as bought.", values
    )


def series(name: str, kind: str, meaning: str, values: Iterable[tuple[Mapping[str, str], Any]]) -> Iterator[str]:
    """Yield the lines of a metric. values: the labels and the value of each series."""
    yield from head(name, kind, meaning)
    for labels, value in values:
        yield f"{name}{_braced(labels)} {value}"


def head(name: str, kind: str, meaning: str) -> Iterator[str]:
    """Yield the lines before a metric's series."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
