"""What a shop watches: how good the served lists are, how new and how varied, and how far clicks have drifted.

Rankings and clicks are noted as they come, a microsecond each, and most of them counted together at the worker's next
tick.

- **Scored clicks.** A click scores the list that its session was served before it: whether it is among the first 20.
  A session's lists are known to the worker that served them, so with several workers a part of the clicks is scored.
- **New items**: those that the training did not know, by position in the served lists.
- **Coverage**: items that were in a list during the last day.
- **Drift**: `experiment.drift`, over the last hour, or longer until there are enough clicks.
"""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.experiment.drift import (
    FEWEST_CLICKS,
    GAPS_MS,
    GROUPS,
    LENGTHS,
    THRESHOLD,
    DriftReference,
    drift_of,
)
from mtaw_fast.model.model import Model
from mtaw_fast.service.bundles import Bundles
from mtaw_fast.service.observability.counters import COVERAGE_SLOTS, version_cell
from mtaw_fast.service.observability.metrics import DRIFT_CELLS, DRIFT_NAMES, Metrics, series
from mtaw_fast.service.snapshot import Snapshot

FIRST_POSITIONS = 20
COVERED_HOURS = 24
_MAX_SESSIONS = 50_000  # whose last list a worker knows
_SPREAD = 0x9E3779B1  # odd: catalogs up to COVERAGE_SLOTS items have a slot for each item
_MINUTE = 60.0
_WINDOW, _LONGEST = 60, 24 * 60  # minutes of drift


@dataclass(slots=True)
class _Click:
    """A click after another one. clicks: of its session. gap: milliseconds since the list before it, if known."""

    item: Any
    clicks: int
    repeat: bool
    gap: int | None


@dataclass(slots=True)
class _Served:
    """The last list of a session. clicks: how many came before it. last: hash of the latest. items: their hashes.

    Hashes take a tenth of the memory, and of a session that is forgotten none can be read back.
    """

    clicks: int
    last: int | None
    items: array[int]
    version: str
    at: int


class Watch:
    """Counts for one worker.

    Parameters
    ----------
    metrics : Metrics
        The worker's counters.
    bundles : Bundles
        Drift is measured against the training of the first one.
    threshold : float
        Drift that is an alarm, unless the training's own hours drift more.
    """

    def __init__(self, metrics: Metrics, bundles: Bundles, threshold: float = THRESHOLD) -> None:
        self._metrics, self._bundles, self._threshold = metrics, bundles, threshold
        self._lists: dict[str, tuple[Snapshot, list[Any]]] = {}  # the items of rankings by version
        self._clicks: list[_Click] = []
        self._served: OrderedDict[int, _Served] = OrderedDict()  # by the session's hash
        self._coverage = [np.frombuffer(cells, np.uint16) for cells in metrics.counters.coverage]
        self._measured = ""  # the version whose drift is measured
        self._minutes: deque[tuple[float, dict[str, np.ndarray]]] = deque(maxlen=_LONGEST + 1)

    def ranked(self, snapshot: Snapshot, session: str | None, clicks: Sequence[Any], items: Sequence[Any]) -> None:
        """Note a ranking of one session. session: its id, if it came with one."""
        lists = self._lists.get(snapshot.version)
        if lists is None or lists[0] is not snapshot:
            self._count_lists()
            lists = self._lists[snapshot.version] = snapshot, []
        lists[1].extend(items)
        gap = None if session is None else self._score_ranked(snapshot.version, session, clicks, items)
        if len(clicks) > 1:
            self._clicks.append(_Click(clicks[-1], len(clicks), clicks[-1] in clicks[:-1], gap))

    def clicked(self, session: str, item: Any) -> None:
        """Note a click that came by itself, as an event."""
        served = self._served.get(hash(session))
        if served is not None and hash(item) != served.last:  # the click that the list was asked for may come after it
            del self._served[hash(session)]
            self._score(served, item)

    def tick(self) -> None:
        """Count what was noted, and measure drift once a minute in the first worker."""
        self._count_lists()
        clicks, self._clicks = self._clicks, []
        if clicks:
            self._count_clicks(clicks)
        if self._metrics.first_worker:
            self._measure_drift()

    def _score_ranked(self, version: str, session: str, clicks: Sequence[Any], items: Sequence[Any]) -> int | None:
        """Score the list before a ranking by the click that led to it; return that click's gap, if it is known."""
        name, at = hash(session), time.time_ns() // 1_000_000
        served = self._served.pop(name, None)
        if served is not None and len(clicks) > served.clicks:
            self._score(served, clicks[served.clicks])
        last = hash(clicks[-1]) if clicks else None
        hashes = array("q", map(hash, items[:FIRST_POSITIONS]))
        self._served[name] = _Served(len(clicks), last, hashes, version, at)
        if len(self._served) > _MAX_SESSIONS:
            self._served.popitem(last=False)
        return at - served.at if served is not None and served.clicks == len(clicks) - 1 else None

    def _score(self, before: _Served, item: Any) -> None:
        self._metrics.count_by_version(before.version, "scored")
        if hash(item) in before.items:
            self._metrics.count_by_version(before.version, "hits")

    def _count_lists(self) -> None:
        noted, self._lists = self._lists, {}
        for snapshot, items in noted.values():
            self._count_items(snapshot, items)

    def _count_items(self, snapshot: Snapshot, items: list[Any]) -> None:
        recommender = snapshot.recommender
        internal_ids = recommender.ids.lookup(items)
        self._metrics.count_by_version(snapshot.version, "ranked_items", len(internal_ids))
        n_new = int(np.count_nonzero(_is_new(recommender.bundle.model, internal_ids)))
        if n_new:
            self._metrics.count_by_version(snapshot.version, "new_items", n_new)
        # A bundle that was replaced by a compaction of it has the same version, and other internal ids.
        is_served = any(reloader.snapshot is snapshot for reloader in self._bundles)
        covered = self._covered(snapshot.version) if is_served else None
        if covered is not None:
            covered[_slots(internal_ids)] = _hour()

    def _covered(self, version: str) -> np.ndarray | None:
        """Return the hours in which a bundle's items were last ranked, uint16[slots]; None if it is not served now.

        Bundles of one version, as in an A/A test, share them.
        """
        for reloader, cells in zip(self._bundles, self._coverage, strict=False):
            if reloader.snapshot.version == version:
                hours, tag = cells[:COVERAGE_SLOTS], cells[COVERAGE_SLOTS:].view(np.int64)
                if tag[0] != version_cell(version):  # another bundle's: internal ids have changed
                    hours[:] = 0
                    tag[0] = version_cell(version)
                return hours
        return None

    def _count_clicks(self, clicks: list[_Click]) -> None:
        snapshot, reference = self._reference()
        if reference is None:
            return
        internal_ids = snapshot.recommender.ids.lookup([click.item for click in clicks])
        gaps = [click.gap for click in clicks if click.gap is not None]
        groups = {
            "popularity": reference.groups_of_items(internal_ids),
            "length": np.searchsorted(LENGTHS, [click.clicks - 1 for click in clicks]),
            "repeat": np.array([click.repeat for click in clicks], np.int64),
            "gap": np.searchsorted(GAPS_MS, gaps) if "gap" in reference.shares else np.empty(0, np.int64),
        }
        for feature, values in groups.items():
            for group, count in enumerate(np.bincount(values, minlength=GROUPS[feature]).tolist()):
                if count:
                    self._metrics.add(f"mtaw_click_{feature}_total", str(group), by=count)

    def _reference(self) -> tuple[Snapshot, DriftReference | None]:
        """Return the first bundle, and its training's clicks. Another version begins a new window."""
        snapshot = self._bundles.first.snapshot  # not kept: a bundle that is replaced leaves the memory
        if self._measured != snapshot.version:
            self._measured = snapshot.version
            self._minutes.clear()
            for name in DRIFT_NAMES:  # else what the new bundle does not measure would keep its value
                for feature in GROUPS:
                    self._metrics.set(name, 0, feature)
        return snapshot, snapshot.reference

    def _measure_drift(self) -> None:
        now = time.monotonic()
        if self._minutes and now - self._minutes[-1][0] < _MINUTE:
            return
        self.measure_drift(now)

    def measure_drift(self, now: float) -> None:
        """Set the gauges of drift. now: seconds; the clicks since `_WINDOW` minutes before count, or more if few."""
        _, reference = self._reference()
        if reference is None:
            return
        sums = {feature: self._metrics.group_counts(feature) for feature in GROUPS}
        self._minutes.append((now, sums))
        for feature, shares in reference.shares.items():
            recent = self._recent(feature, now)
            enough = recent.sum() >= FEWEST_CLICKS
            self._metrics.set("mtaw_drift", round(DRIFT_CELLS * drift_of(recent, shares)) if enough else 0, feature)
            self._metrics.set("mtaw_drift_clicks", int(recent.sum()), feature)
            self._metrics.set(
                "mtaw_drift_threshold", round(DRIFT_CELLS * max(self._threshold, reference.usual[feature])), feature
            )

    def _recent(self, feature: str, now: float) -> np.ndarray:
        """Return the counts by group of the last hour, or of longer if an hour has too few clicks."""
        latest = self._minutes[-1][1][feature]
        counts = latest - self._minutes[0][1][feature]
        for moment, sums in self._minutes:
            recent = latest - sums[feature]
            if now - moment < _WINDOW * _MINUTE or recent.sum() < FEWEST_CLICKS:
                break
            counts = recent
        return counts

    def lines(self) -> Iterator[str]:
        """Yield what `/metrics` says of the bundles that are served: names, age, items, and coverage."""
        served = {reloader.snapshot.version: reloader.snapshot for reloader in self._bundles}
        folders = (({"version": version, "bundle": snapshot.folder}, 1) for version, snapshot in served.items())
        yield from series(
            "mtaw_bundle_info", "gauge", "1 for each version that is served, with its folder's name.", folders
        )
        trained = (({"version": version}, f"{snapshot.trained:.0f}") for version, snapshot in served.items())
        yield from series("mtaw_bundle_trained_seconds", "gauge", "When a bundle was trained, Unix seconds.", trained)
        clicks = (
            ({"version": version}, (snapshot.recommender.last_click or 0) / 1000)
            for version, snapshot in served.items()
        )  # fmt: skip
        yield from series(
            "mtaw_last_click_seconds",
            "gauge",
            "When the learned clicks end, but for a few, Unix seconds; 0 without times.",
            clicks,
        )
        items = (({"version": version}, snapshot.recommender.n_items) for version, snapshot in served.items())
        yield from series("mtaw_catalog_items", "gauge", "Items that can be recommended.", items)
        covered = (
            ({"version": version}, covered_items(hours, snapshot.recommender.ids))
            for version, snapshot in served.items() if (hours := self._covered(version)) is not None
        )  # fmt: skip
        yield from series("mtaw_covered_items", "gauge", "Of those, items in a list of the last day.", covered)


def covered_items(hours: np.ndarray, ids: Any) -> int:
    """Return how many items were ranked in the last day.

    Exact for catalogs of at most COVERAGE_SLOTS items. In a larger one, n items share a slot, so a share of (1 - c)^n
    of the slots is empty at a coverage of c.
    """
    age = np.uint16(_hour()) - hours  # modulo 2**16
    taken = int(np.count_nonzero((hours > 0) & (age < COVERED_HOURS)))
    if len(ids) <= COVERAGE_SLOTS:
        return taken
    empty = 1 - taken / COVERAGE_SLOTS
    return round(len(ids) * (1 - empty ** (COVERAGE_SLOTS / len(ids))))


def _slots(items: np.ndarray) -> np.ndarray:
    known = items[items >= 0].astype(np.int64)
    return known * _SPREAD & COVERAGE_SLOTS - 1


def _hour() -> int:
    """Return the hour, as uint16 that is never 0."""
    return int(time.time() // 3600) % 65_535 + 1


def _is_new(model: Model, items: np.ndarray) -> np.ndarray:
    """Return bool[n]: whether the training did not know an item, an internal id."""
    new = items >= model.n_items
    progress = model.log_progress
    return new if progress is None or not len(progress.untrained) else new | np.isin(items, progress.untrained)
