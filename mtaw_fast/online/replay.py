"""Prequential evaluation on a log: the frozen bundle against the learning one, each click predicted from all before it.

Axes: T clicks of the log, S samples.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtaw_fast.data.context import translated_codes
from mtaw_fast.data.readers import ClickStream
from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.decayed import DecayedCounts
from mtaw_fast.evaluation.metrics import KS, gains_of, listed_rank, means_of
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogEvents, LogFile
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.cold_start import started
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import Conditions
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex

Progress = Callable[[int, int], None]

BASELINES = ("co-occurrence", "popularity")
_HOUR = 3_600_000
_QUARTERS = 4
_FROZEN_CHUNK = 1024
_FORGOTTEN = 60  # half-lives after which the weight of a training click is negligible


class NothingScoredError(UsageError):
    """No click of a log is scored."""


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Which clicks are scored, and how often the model learns. Raises UsageError if a value is out of range.

    begin, until: Unix milliseconds of the scored clicks; by default after the last click that the model learned. A log
    without times is scored as a whole. exclude_seen: whether to exclude a session's own items from its rankings. every:
    milliseconds of a step, whose clicks are all ranked before any of them is learned. min_prefix: a scored click has at
    least so many clicks of its session before it. half_life: milliseconds, for the baselines; infinite if the log has
    no times. baselines: whether they rank too, which takes a third of the time.
    """

    begin: int | None = None
    until: int | None = None
    exclude_seen: bool = False
    every: int = 1000
    min_prefix: int = 1
    half_life: float = 1_800_000.0
    baselines: bool = True

    def __post_init__(self) -> None:
        for name in ("every", "min_prefix", "half_life"):
            if not getattr(self, name) > 0:
                raise UsageError(f"replay: {name}={getattr(self, name)} must be positive")


@dataclass(frozen=True, slots=True, eq=False)
class ReplayResult:
    """The result of a replay.

    clicks, times: int64[S], the indices of the scored clicks in the log, and their times in milliseconds, which are
    made up unless `timed`. unknown: bool[S], whether the target had never been clicked before. ranks: int32[S] for
    'learning', 'frozen' and each baseline, the target's pessimistic rank, 0 below the 20th. refused: clicks that were
    not learned, by reason; those of whole sessions of bots included. bots: their sessions, neither scored nor learned.
    """

    clicks: np.ndarray
    times: np.ndarray
    timed: bool
    unknown: np.ndarray
    ranks: Mapping[str, np.ndarray]
    refused: Mapping[str, int]
    bots: int = 0

    def metrics(self, chosen: np.ndarray | slice = slice(None)) -> dict[str, dict[str, float]]:
        """Return the metrics of each ranker in percent, over the chosen samples."""
        return {name: means_of(gains_of(ranks[chosen])) for name, ranks in self.ranks.items()}

    def unknown_percent(self, chosen: np.ndarray | slice = slice(None)) -> float:
        """Return the percentage of the chosen samples whose target was unknown."""
        return 100.0 * float(np.mean(self.unknown[chosen]))

    def parts(self) -> list[tuple[str, np.ndarray]]:
        """Return the samples of each hour (UTC), int64[..]; of each quarter of the log if it has no times."""
        if self.timed:
            hours = self.times // _HOUR
            by_hour = [(int(hour), np.flatnonzero(hours == hour)) for hour in np.unique(hours)]
            return [(f"{np.datetime64(hour, 'h')}:00", samples) for hour, samples in by_hour]
        cut = np.array_split(np.arange(len(self.clicks)), _QUARTERS)
        return [(f"quarter {number}", samples) for number, samples in enumerate(cut, start=1) if len(samples)]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, in percent."""
        metrics = self.metrics()
        return {
            "learning": metrics["learning"],
            "frozen": metrics["frozen"],
            "baselines": {name: metrics[name] for name in BASELINES},
            "samples": len(self.clicks),
            "unknown_targets": self.unknown_percent(),
            "bots": self.bots,
            "refused": dict(self.refused),
        }


def replay(
    log: LogFile, settings: ReplaySettings, limits: LearningLimits, progress: Progress | None = None
) -> ReplayResult:
    """Replay a log.

    Clicks before `settings.begin` are learned and start sessions, but are not scored. Those that the model knows are
    not learned again. progress: called as progress(clicks done, T). Raises NothingScoredError if no click is scored.
    """
    return _Replay(log, settings, limits).run(progress)


class _Replay:
    def __init__(self, log: LogFile, settings: ReplaySettings, limits: LearningLimits) -> None:
        self._log, self._settings, self._limits = log, settings, limits
        model, stream = log.model, log.stream
        order = np.argsort(stream.sessions, kind="stable")
        # The log's item codes and times, session by session: a click is at `_at`, its session starts at `_begins`.
        self._codes, self._moments = stream.items[order], log.times[order]
        self._context = _context_in(stream, model)
        if self._context is not None:
            self._context = self._context[order]
        self._types = model.click_types.translated(stream.types, stream.type_names)
        if self._types is not None:
            self._types = self._types[order]
        self._at = np.empty(len(order), dtype=np.int64)
        self._at[order] = np.arange(len(order))
        starts = offsets_of(np.bincount(stream.sessions, minlength=len(stream.session_ids)))
        self._begins = starts[stream.sessions]
        self._known = model.ids.lookup(stream.item_ids).astype(np.int32)  # internal ids in the model
        # The baselines number the model's items first, then the other items of the log.
        self._numbers = np.where(self._known >= 0, self._known, model.n_items + np.arange(len(self._known)))
        self._conditions = Conditions(exclude_seen=settings.exclude_seen)
        self._encoder = NativeEncoder(model.config, model.weights)
        self._index = NativeIndex(model.item_vectors, model.scan)
        self._state = OnlineState(model, limits)
        items = self._state.event_processor.items
        self._internal = items.internal_ids_of(stream.item_ids)  # internal ids in the online state, with new rows
        self._scored = self._chosen()
        self._unknown = self._never_seen()
        self._counts = self._trained_counts() if settings.baselines else None

    def run(self, progress: Progress | None) -> ReplayResult:
        samples = np.flatnonzero(self._scored)
        if len(samples) == 0:
            raise NothingScoredError(
                "no click of the log is scored: after the model's last click none has an earlier click in its session; "
                "give a later log or --from"
            )
        rankers = ("learning", *(BASELINES if self._counts is not None else ()))
        ranks = {name: np.zeros(len(self._scored), dtype=np.int32) for name in rankers}
        events, pipeline, n_clicks = LogEvents(self._log), None, len(self._scored)
        for begin, end in self._steps():
            now = np.arange(begin, end)
            scored = now[self._scored[begin:end]]
            if len(scored):
                if pipeline is None or self._state.changed:
                    catalog = _as_clicked(self._state.catalog())
                    pipeline = Pipeline.of(catalog, self._encoder, self._index, pipeline)
                ranks["learning"][scored] = self._ranked(pipeline, scored, self._internal)
                self._rank_baselines(scored, ranks)
            self._state.apply(events.of(begin, end))
            self._update_ids(now)
            self._count(now)
            if progress is not None:
                progress(end, n_clicks)
        event_processor = self._state.event_processor
        return ReplayResult(
            clicks=samples,
            times=self._log.times[samples],
            timed=self._log.stream.times is not None,
            unknown=self._unknown[samples],
            ranks={"learning": ranks.pop("learning")[samples], "frozen": self._frozen(samples)}
            | {name: of_clicks[samples] for name, of_clicks in ranks.items()},
            refused=dict(event_processor.refused + event_processor.tracker.refused + Counter(bot=self._log.bot_clicks)),
            bots=int(np.count_nonzero(self._log.bots)),
        )

    def _chosen(self) -> np.ndarray:
        """Return bool[T]: which clicks are scored."""
        settings, times = self._settings, self._log.times
        scored = self._at - self._begins >= settings.min_prefix
        scored &= ~self._log.bots[self._log.stream.sessions]
        begin = settings.begin
        if begin is None and self._log.stream.times is not None and self._log.model.learned_until is not None:
            begin = self._log.model.learned_until + 1
        if begin is not None:
            scored &= times >= begin
        if settings.until is not None:
            scored &= times < settings.until
        return scored

    def _never_seen(self) -> np.ndarray:
        """Return bool[T]: whether a click is the first of the log on an item that the model does not know."""
        items = self._log.stream.items
        first = np.zeros(len(items), dtype=bool)
        first[np.unique(items, return_index=True)[1]] = True
        return first & (self._known[items] < 0)

    def _steps(self) -> list[tuple[int, int]]:
        """Return (begin, end) of each step of `every` milliseconds, up to the last scored click."""
        count = int(np.flatnonzero(self._scored)[-1]) + 1
        steps = self._log.times[:count] // self._settings.every
        cuts = np.flatnonzero(np.diff(steps)) + 1
        bounds = [0, *cuts.tolist(), count]
        return list(itertools.pairwise(bounds))

    def _prefixes(self, clicks: np.ndarray, internal: np.ndarray) -> Sessions:
        """Return the sessions before the clicks int64[n], without items that have no internal id."""
        lengths = self._at[clicks] - self._begins[clicks]
        indices = ranges(self._begins[clicks], lengths)
        items = internal[self._codes[indices]]
        rows = np.repeat(np.arange(len(clicks)), lengths)[items >= 0]
        times = self._moments[indices][items >= 0] if self._log.stream.times is not None else None
        context = None if self._context is None else self._context[indices][items >= 0]
        types = None if self._types is None else self._types[indices][items >= 0]
        return Sessions(items[items >= 0], offsets_of(np.bincount(rows, minlength=len(clicks))), times, types, context)

    def _ranked(self, pipeline: Pipeline, clicks: np.ndarray, internal: np.ndarray) -> np.ndarray:
        """Return int32[n]: the ranks of clicks."""
        ids, scores = pipeline.rank(self._prefixes(clicks, internal), max(KS) + 1, self._conditions)
        targets = internal[self._log.stream.items[clicks]]
        # -2 for an item without an internal id: it equals neither an id nor the padding of a list.
        return _cut(listed_rank(ids, scores, np.where(targets >= 0, targets, -2)))

    def _frozen(self, samples: np.ndarray) -> np.ndarray:
        catalog = _as_clicked(Catalog.of(self._log.model))
        if self._limits.cold_start:
            catalog = started(catalog)
        pipeline = Pipeline.of(catalog, self._encoder, self._index)
        known = catalog.ids.lookup(self._log.stream.item_ids).astype(np.int32)
        chunks = [samples[begin : begin + _FROZEN_CHUNK] for begin in range(0, len(samples), _FROZEN_CHUNK)]
        return np.concatenate([self._ranked(pipeline, chunk, known) for chunk in chunks])

    def _update_ids(self, clicks: np.ndarray) -> None:
        """Store the internal ids of items that entered the catalog with these clicks."""
        codes = np.unique(self._log.stream.items[clicks])
        for code in codes[self._internal[codes] < 0].tolist():
            internal_id = self._state.event_processor.items.new_items.internal_id_of(self._log.stream.item_ids[code])
            if internal_id is not None:
                self._internal[code] = internal_id

    # The baselines

    def _session(self, click: int) -> list[int]:
        """Return the numbers of the items before a click in its session."""
        numbers: list[int] = self._numbers[self._codes[self._begins[click] : self._at[click]]].tolist()
        return numbers

    def _rank_baselines(self, clicks: np.ndarray, ranks: Mapping[str, np.ndarray]) -> None:
        if self._counts is None:
            return
        k = max(KS) + 1
        for click in clicks.tolist():
            session = self._session(click)
            excluded = set(session) if self._settings.exclude_seen else set()
            target = np.array([self._numbers[self._log.stream.items[click]]])
            for name, (ids, scores) in (
                ("co-occurrence", self._counts.co_occurring(session, k, excluded)),
                ("popularity", self._counts.popular(k, excluded)),
            ):
                if len(ids):
                    ranks[name][click] = _cut(listed_rank(ids[None], scores[None], target))[0]

    def _count(self, clicks: np.ndarray) -> None:
        if self._counts is None:
            return
        fresh = clicks[self._log.fresh[clicks]]
        for click, time in zip(fresh.tolist(), self._log.times[fresh].tolist(), strict=True):
            self._counts.click(int(self._numbers[self._log.stream.items[click]]), self._session(click), time)

    def _trained_counts(self) -> DecayedCounts:
        """Return the baselines with the clicks of the model counted."""
        timed = self._log.stream.times is not None and self._log.model.sessions.times is not None
        counts = DecayedCounts(self._settings.half_life if self._log.stream.times is not None else math.inf)
        sessions = self._log.model.sessions
        begins = np.repeat(sessions.offsets[:-1], sessions.lengths)
        clicks = np.arange(sessions.n_clicks)
        if timed and sessions.times is not None:
            clicks = np.argsort(sessions.times, kind="stable")
            first = self._log.times[self._scored].min(initial=2**62)
            clicks = clicks[sessions.times[clicks] >= first - _FORGOTTEN * self._settings.half_life]
        items = sessions.items.tolist()
        moments = np.zeros(len(clicks), np.int64) if not timed or sessions.times is None else sessions.times[clicks]
        for click, begin, moment in zip(clicks.tolist(), begins[clicks].tolist(), moments.tolist(), strict=True):
            counts.click(items[click], items[begin:click], moment)
        return counts


def _as_clicked(catalog: Catalog) -> Catalog:
    """Return the catalog with what its item table withholds now: it may have been there when it was clicked."""
    return replace(catalog, all_items=True)


def _context_in(stream: ClickStream, model: Model) -> np.ndarray | None:
    """Return uint16[T, C], the clicks' context in the model's codes; None if either has none."""
    if stream.context is None or stream.context_columns is None or model.context is None:
        return None
    return translated_codes(stream.context, stream.context_columns, model.context.columns)


def _cut(ranks: np.ndarray) -> np.ndarray:
    return np.where(ranks <= max(KS), ranks, 0).astype(np.int32)
