"""A log gone through as it happened: every click predicted from all before it, learning and as trained.

Axes: T clicks of the log, S samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of, ranges
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.decayed import DecayedCounts
from mtaw_fast.evaluation.metrics import KS, gains_of, listed_rank, means_of
from mtaw_fast.online.batch_update import LogEvents, LogFile
from mtaw_fast.online.settings import LearningLimits
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
_FORGOTTEN = 60  # half-lives after which a training click says nothing any more


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What is scored, and how often is learned.

    Attributes
    ----------
    begin : int, optional
        The first moment (ms since 1970) whose clicks are scored; by default after the last click that the model
        learned, everything without times.
    until : int, optional
        The first moment whose clicks are not scored any more.
    exclude_seen : bool, default False
        Whether a session's own items are left out of its rankings.
    every : int, default 1000
        Milliseconds of the log: clicks of one such step are ranked before any of them is learned.
    min_prefix : int, default 1
        Clicks of its session that a scored click has before it, at least.
    half_life : float, default 1_800_000
        Milliseconds: the baselines'. Infinite where the log has no times.

    Raises
    ------
    UsageError
        Where a value is out of range.
    """

    begin: int | None = None
    until: int | None = None
    exclude_seen: bool = False
    every: int = 1000
    min_prefix: int = 1
    half_life: float = 1_800_000.0

    def __post_init__(self) -> None:
        for name in ("every", "min_prefix", "half_life"):
            if not getattr(self, name) > 0:
                raise UsageError(f"replay: {name}={getattr(self, name)} must be positive")


@dataclass(frozen=True, slots=True, eq=False)
class ReplayResult:
    """What a replay found.

    Attributes
    ----------
    places : int64[S]
        Of the scored clicks in the log.
    times : int64[S]
        Theirs in milliseconds.
    timed : bool
        Whether these are real.
    unknown : bool[S]
        Whether nobody had clicked the target before.
    ranks : mapping of str to int32[S]
        'learning', 'frozen' and the baselines: the target's pessimistic rank, 0 below the 20th.
    refused : mapping of str to int
        Clicks that were not learned, by reason.
    """

    places: np.ndarray
    times: np.ndarray
    timed: bool
    unknown: np.ndarray
    ranks: Mapping[str, np.ndarray]
    refused: Mapping[str, int]

    def metrics(self, chosen: np.ndarray | slice = slice(None)) -> dict[str, dict[str, float]]:
        """Of each ranker in percent, over the chosen samples."""
        return {name: means_of(gains_of(ranks[chosen])) for name, ranks in self.ranks.items()}

    def unknown_percent(self, chosen: np.ndarray | slice = slice(None)) -> float:
        """How many of the chosen samples' targets were unknown."""
        return 100.0 * float(np.mean(self.unknown[chosen]))

    def parts(self) -> list[tuple[str, np.ndarray]]:
        """The samples hour by hour (UTC), int64[..] each; in quarters of the log where it has no times."""
        if self.timed:
            hours = self.times // _HOUR
            found = [(int(hour), np.flatnonzero(hours == hour)) for hour in np.unique(hours)]
            return [(f"{np.datetime64(hour, 'h')}:00", samples) for hour, samples in found]
        cut = np.array_split(np.arange(len(self.places)), _QUARTERS)
        return [(f"quarter {number}", samples) for number, samples in enumerate(cut, start=1) if len(samples)]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, in percent."""
        metrics = self.metrics()
        return {
            "learning": metrics["learning"],
            "frozen": metrics["frozen"],
            "baselines": {name: metrics[name] for name in BASELINES},
            "samples": len(self.places),
            "unknown_targets": self.unknown_percent(),
        }


def replay(
    log: LogFile, settings: ReplaySettings, limits: LearningLimits, progress: Progress | None = None
) -> ReplayResult:
    """Go through a log.

    Parameters
    ----------
    log : LogFile
        Clicks before `settings.begin` are learned and are the beginnings of sessions, but not scored; of those that
        the model knows nothing is learned twice.
    settings : ReplaySettings
        What is scored.
    limits : LearningLimits
        Who teaches how much.
    progress : callable, optional
        Called as progress(done, T).

    Returns
    -------
    ReplayResult

    Raises
    ------
    UsageError
        Where no click is scored.
    """
    return _Replay(log, settings, limits).run(progress)


class _Replay:
    def __init__(self, log: LogFile, settings: ReplaySettings, limits: LearningLimits) -> None:
        self._log, self._settings = log, settings
        model, stream = log.model, log.stream
        order = np.argsort(stream.sessions, kind="stable")
        # The log's item codes and times, session by session. A click's session begins at `_begins`, itself is at `_at`.
        self._codes, self._moments = stream.items[order], log.times[order]
        self._at = np.empty(len(order), dtype=np.int64)
        self._at[order] = np.arange(len(order))
        starts = offsets_of(np.bincount(stream.sessions, minlength=len(stream.session_ids)))
        self._begins = starts[stream.sessions]
        self._known = model.ids.lookup(stream.item_ids).astype(np.int32)  # as the model knows them
        self._internal = self._known.copy()  # as the online state knows them
        # One numbering for the baselines: the model's items, then the log's others.
        self._numbers = np.where(self._known >= 0, self._known, model.n_items + np.arange(len(self._known)))
        self._conditions = Conditions(exclude_seen=settings.exclude_seen)
        self._encoder = NativeEncoder(model.config, model.weights)
        self._index = NativeIndex(model.item_vectors, model.scan)
        self._state = OnlineState(model, limits)
        self._scored = self._chosen()
        self._unknown = self._never_seen()
        self._counts = self._trained_counts()

    def run(self, progress: Progress | None) -> ReplayResult:
        samples = np.flatnonzero(self._scored)
        if len(samples) == 0:
            raise UsageError(
                "no click of the log is scored: none has an earlier one in its session after the model's last click; "
                "give a later log or --from"
            )
        ranks = {name: np.zeros(len(self._scored), dtype=np.int32) for name in ("learning", *BASELINES)}
        events, pipeline, n_clicks = LogEvents(self._log), None, len(self._scored)
        for begin, end in self._steps():
            now = np.arange(begin, end)
            asked = now[self._scored[begin:end]]
            if len(asked):
                if pipeline is None or self._state.changed:
                    pipeline = Pipeline.of(self._state.catalog(), self._encoder, self._index, pipeline)
                ranks["learning"][asked] = self._ranked(pipeline, asked, self._internal)
                self._rank_baselines(asked, ranks)
            self._state.apply(events.of(begin, end))
            self._meet(now)
            self._count(now)
            if progress is not None:
                progress(end, n_clicks)
        event_processor = self._state.event_processor
        return ReplayResult(
            places=samples,
            times=self._log.times[samples],
            timed=self._log.stream.times is not None,
            unknown=self._unknown[samples],
            ranks={"learning": ranks["learning"][samples], "frozen": self._frozen(samples)}
            | {name: ranks[name][samples] for name in BASELINES},
            refused=dict(event_processor.refused + event_processor.tracker.refused),
        )

    def _chosen(self) -> np.ndarray:
        """bool[T]: which clicks are scored."""
        settings, times = self._settings, self._log.times
        chosen = self._at - self._begins >= settings.min_prefix
        begin = settings.begin
        if begin is None and self._log.stream.times is not None and self._log.model.learned_until is not None:
            begin = self._log.model.learned_until + 1
        if begin is not None:
            chosen &= times >= begin
        if settings.until is not None:
            chosen &= times < settings.until
        return chosen

    def _never_seen(self) -> np.ndarray:
        """bool[T]: whether the model does not know a click's item and nobody has clicked it in the log before."""
        items = self._log.stream.items
        first = np.zeros(len(items), dtype=bool)
        first[np.unique(items, return_index=True)[1]] = True
        return first & (self._known[items] < 0)

    def _steps(self) -> list[tuple[int, int]]:
        """Runs of clicks that are ranked before any of them is learned; they end after the last scored click."""
        count = int(np.flatnonzero(self._scored)[-1]) + 1
        steps = self._log.times[:count] // self._settings.every
        cuts = np.flatnonzero(np.diff(steps)) + 1
        bounds = [0, *cuts.tolist(), count]
        return list(itertools.pairwise(bounds))

    def _prefixes(self, asked: np.ndarray, internal: np.ndarray) -> Sessions:
        """The sessions so far of the clicks int64[n], less the items that have no id."""
        lengths = self._at[asked] - self._begins[asked]
        places = ranges(self._begins[asked], lengths)
        items = internal[self._codes[places]]
        rows = np.repeat(np.arange(len(asked)), lengths)[items >= 0]
        times = self._moments[places][items >= 0] if self._log.stream.times is not None else None
        return Sessions(items[items >= 0], offsets_of(np.bincount(rows, minlength=len(asked))), times)

    def _ranked(self, pipeline: Pipeline, asked: np.ndarray, internal: np.ndarray) -> np.ndarray:
        """int32[n]: the ranks of clicks."""
        ids, scores = pipeline.rank(self._prefixes(asked, internal), max(KS) + 1, self._conditions)
        targets = internal[self._log.stream.items[asked]]
        # -2: an item without an id is in no list, and no padding either.
        return _cut(listed_rank(ids, scores, np.where(targets >= 0, targets, -2)))

    def _frozen(self, samples: np.ndarray) -> np.ndarray:
        pipeline = Pipeline.of(Catalog.of(self._log.model), self._encoder, self._index)
        chunks = [samples[begin : begin + _FROZEN_CHUNK] for begin in range(0, len(samples), _FROZEN_CHUNK)]
        return np.concatenate([self._ranked(pipeline, chunk, self._known) for chunk in chunks])

    def _meet(self, clicks: np.ndarray) -> None:
        """Note the ids of items that have entered the catalog with these clicks."""
        codes = np.unique(self._log.stream.items[clicks])
        for code in codes[self._internal[codes] < 0].tolist():
            place = self._state.event_processor.new_items.place_of(self._log.stream.item_ids[code])
            if place is not None:
                self._internal[code] = place

    # The baselines

    def _session(self, click: int) -> list[int]:
        """The numbers of the items in a click's session before it."""
        found: list[int] = self._numbers[self._codes[self._begins[click] : self._at[click]]].tolist()
        return found

    def _rank_baselines(self, asked: np.ndarray, ranks: Mapping[str, np.ndarray]) -> None:
        k = max(KS) + 1
        for click in asked.tolist():
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
        fresh = clicks[self._log.fresh[clicks]]
        for click, time in zip(fresh.tolist(), self._log.times[fresh].tolist(), strict=True):
            self._counts.click(int(self._numbers[self._log.stream.items[click]]), self._session(click), time)

    def _trained_counts(self) -> DecayedCounts:
        """The baselines, having counted what the model learned."""
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


def _cut(ranks: np.ndarray) -> np.ndarray:
    return np.where(ranks <= max(KS), ranks, 0).astype(np.int32)
