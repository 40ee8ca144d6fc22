"""What the service counts, where each number stands in a worker's row, and Prometheus' text of the sums."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mtaw_fast.service.observability import version_counters as version_counters
from mtaw_fast.service.observability.counters import FIRST, VERSION, Counters
from mtaw_fast.service.observability.version_counters import VersionCounters, version_text
from mtaw_fast.service.shared_memory import SharedMemory

CONTENT_TYPE = "text/plain; version=0.0.4"
ROUTES = (
    "/v1/recommend", "/v1/recommend/batch", "/v1/similar", "/v1/items", "/v1/sessions/{id}/click", "/v1/sessions/{id}",
    "/v1/events", "/v1/feedback", "/v1/bundle", "/admin/reload", "/admin/items/add", "/admin/items/remove",
    "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/", "other",
)  # fmt: skip
STATUSES = (
    200,
    204,
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    413,
    500,
    503,
    0,
)  # 0: the client left; others count as 500
STAGES = ("queue", "lookup", "encode", "retrieve", "memory", "assemble", "joint")
_REQUEST_BOUNDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_STAGE_BOUNDS = (
    2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. labels: its name and values of each label. bounds: upper bounds in seconds, of a histogram, whose
    cells are one a bound, one past all of them, and the sum in nanoseconds."""

    name: str
    kind: str
    help: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def series(self) -> list[tuple[str, ...]]:
        """The label values of each series."""
        return list(product(*(values for _, values in self.labels)))

    @property
    def cells(self) -> int:
        """How many cells a series takes."""
        return len(self.bounds) + 2 if self.bounds else 1


REFUSALS = ("duplicate", "late", "session_full", "bot", "flood", "catalog_full", "wrong_type", "trained")
_ROUTE = ("route", ROUTES)
FAMILIES = (
    Family(
        "mtaw_requests_total", "counter", "Requests by route and status.",
        (_ROUTE, ("status", tuple(map(str, STATUSES)))),
    ),
    Family("mtaw_request_seconds", "histogram", "From the parsed request on.", (_ROUTE,), _REQUEST_BOUNDS),
    Family(
        "mtaw_stage_seconds", "histogram", "Stages of rankings; joint: of several in one pass.", (("stage", STAGES),),
        _STAGE_BOUNDS,
    ),
    Family("mtaw_clicks_total", "counter", "Clicks in the sessions that were ranked."),
    Family("mtaw_unknown_clicks_total", "counter", "Of those, clicks that the catalog does not know."),
    Family("mtaw_answers_total", "counter", "Sessions that were ranked."),
    Family("mtaw_fallback_answers_total", "counter", "Of those, without a known click: the popularity ranking."),
    Family("mtaw_batched_answers_total", "counter", "Of those, ranked together with others that waited."),
    Family(
        "mtaw_rejected_total", "counter", "Requests refused under load.",
        (("reason", ("overloaded", "deadline_passed")),),
    ),
    Family("mtaw_reloads_total", "counter", "New bundles met.", (("result", ("loaded", "refused")),)),
    Family("mtaw_worker_starts_total", "counter", "Workers started."),
    Family("mtaw_queue_length", "gauge", "Requests that wait."),
    Family("mtaw_sessions", "gauge", "Sessions held in memory."),
    Family("mtaw_sessions_bytes", "gauge", "Memory that they take."),
    Family("mtaw_events_total", "counter", "Events that were kept."),
    Family("mtaw_events_refused_total", "counter", "Events that could not be kept."),
    Family("mtaw_feedback_total", "counter", "Feedback that was kept."),
    Family("mtaw_feedback_refused_total", "counter", "Feedback that could not be kept."),
    Family("mtaw_learned_clicks", "gauge", "Clicks learned since the bundle that is served."),
    Family("mtaw_not_learned_clicks", "gauge", "Clicks that teach nothing.", (("reason", REFUSALS),)),
    Family("mtaw_delta_clicks", "gauge", "Clicks that are not in the tables yet."),
    Family("mtaw_delta_bytes", "gauge", "Memory that they take, a worker."),
    Family("mtaw_new_items", "gauge", "Items that came since the bundle that is served."),
    Family("mtaw_damaged_records", "gauge", "Records of the log that were passed over."),
    Family("mtaw_learning_stopped", "gauge", "1 while the log cannot be read."),
)  # fmt: skip


def _layout() -> tuple[dict[tuple[str, ...], int], int]:
    """The first cell of each series, by family name and label values; and how many cells there are."""
    places, place = {}, 0
    for family in FAMILIES:
        for values in family.series:
            places[family.name, *values] = place
            place += family.cells
    return places, place


_PLACES, WIDTH = _layout()
GAUGES = tuple(
    _PLACES[family.name, *values] for family in FAMILIES if family.kind == "gauge" for values in family.series
)
_STATUS_AT = {status: place for place, status in enumerate(STATUSES)}
_REQUESTS_AT = {route: _PLACES["mtaw_requests_total", route, str(STATUSES[0])] for route in ROUTES}
_REQUEST_AT = {route: _PLACES["mtaw_request_seconds", route] for route in ROUTES}
_STAGE_AT = {stage: _PLACES["mtaw_stage_seconds", stage] for stage in STAGES}


class Metrics:
    """A worker's own counts, and the sums of all workers' as text."""

    def __init__(self, counters: Counters, row: int | None = None) -> None:
        self.counters = counters
        self.tells = row == 0  # what is the same in every worker
        self._own = counters.own[FIRST:]
        self._tallies = VersionCounters(counters.own[-version_counters.WIDTH :])

    @classmethod
    def open(cls, memory: SharedMemory, rows: int, row: int | None = None) -> Metrics:
        """Map what `make` made; see `Counters`."""
        return cls(Counters(memory, rows, WIDTH, row), row)

    @staticmethod
    def make(rows: int) -> SharedMemory:
        """The counters of `rows` workers. Raises MtawError where there is no memory for them."""
        return Counters.make(rows, WIDTH)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        own = self._own
        own[_REQUESTS_AT[route] + _STATUS_AT.get(status, _STATUS_AT[500])] += 1
        _observe(own, _REQUEST_AT[route], _REQUEST_BOUNDS, seconds)

    def stage(self, stage: str, microseconds: float) -> None:
        """Count a stage of a ranking."""
        _observe(self._own, _STAGE_AT[stage], _STAGE_BOUNDS, microseconds * 1e-6)

    def add(self, name: str, *labels: str, by: int = 1) -> None:
        """Count `by` more in a counter."""
        self._own[_PLACES[name, *labels]] += by

    def set(self, name: str, value: int, *labels: str) -> None:
        """Set a gauge."""
        self._own[_PLACES[name, *labels]] = value

    def serve(self, version: str) -> None:
        """Note that this worker serves a bundle version from now on, beside the others in its row."""
        self._claim(version)

    def _claim(self, version: str) -> None:
        """Give a version cells, which it does not take from one that is served all the while."""
        for served in map(version_text, filter(None, self.counters.own[VERSION:FIRST])):
            if self._tallies.knows(served):
                self._tallies.serve(served)  # is the latest again
        self._tallies.serve(version)

    def count_by_version(self, version: str, kind: str, by: int = 1) -> None:
        """Count `by` more of a kind of `version_counters.KINDS` for a bundle version that this worker serves."""
        self._tallies.add(version, kind, by)

    def count_first_by_version(self, version: str, counts: Mapping[str, int]) -> None:
        """Count by kind what a client says of a version, which only counts as one where a worker has served it."""
        if not self._tallies.knows(version) and version in self.counters.by_version():
            self._claim(version)
        for kind, count in counts.items():
            self._tallies.add(version, kind, count)

    def text(self) -> str:
        """All metrics, summed over the workers, in Prometheus' text format."""
        sums = self.counters.sums()
        lines = [line for family in FAMILIES for line in _lines(family, sums)]
        lines += ["# HELP mtaw_workers Live workers by the bundle version they serve.", "# TYPE mtaw_workers gauge"]
        for version, count in sorted(self.workers().items()):
            lines.append(f'mtaw_workers{{version="{version}"}} {count}')
        lines += version_counters.text_of(self.counters.by_version())
        return "\n".join(lines) + "\n"

    def workers(self) -> dict[str, int]:
        """Live workers by the bundle version that they serve."""
        return dict(Tally(self.counters.live_versions()))


def _observe(cells: memoryview, place: int, bounds: Sequence[float], seconds: float) -> None:
    cells[place + bisect_left(bounds, seconds)] += 1
    cells[place + len(bounds) + 1] += int(seconds * 1e9)


def _lines(family: Family, sums: list[int]) -> Iterator[str]:
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for values in family.series:
        labels = [f'{name}="{value}"' for (name, _), value in zip(family.labels, values, strict=True)]
        place = _PLACES[family.name, *values]
        counts = sums[place : place + family.cells]
        if not family.bounds:
            # A status that a route never gave would be most of the text.
            if counts[0] or not labels:
                yield f"{family.name}{_braced(labels)} {counts[0]}"
            continue
        total = 0
        for bound, count in zip((*map(_plain, family.bounds), "+Inf"), counts, strict=False):
            total += count
            upper = f'le="{bound}"'
            yield f"{family.name}_bucket{_braced([*labels, upper])} {total}"
        yield f"{family.name}_sum{_braced(labels)} {counts[-1] / 1e9:.9f}"
        yield f"{family.name}_count{_braced(labels)} {total}"


def _plain(bound: float) -> str:
    return f"{bound:.6f}".rstrip("0").rstrip(".")


def _braced(labels: Sequence[str]) -> str:
    return f"{{{','.join(labels)}}}" if labels else ""
