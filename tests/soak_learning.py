"""The learning soak: a process learns at a fixed rate while it ranks.

Its memory use must stay flat, and its answers must equal those of a rebuild.

    python -m tests.soak --learn --seconds 3600 --rate 2000

However long the run is, its events span 8 hours of event time, and each compaction drops what is older than an hour.
So the state is bounded, and what still grows is a leak. Memory use rises between two compactions, and steps up with the
first ones, when an old and a new state meet. So its peaks are compared after `_WARM_UP` compactions: those of the later
half of the rest with those of the first. A slow machine gets more time for
`_MIN_COMPACTIONS` compactions, with few events.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.live.inputs import ALL, MORNING, Shop, make_shop, queries, stream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemoryTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.compaction.compactor import BUSY, compact_folder
from mtaw_fast.online.compaction.current import current_bundle
from mtaw_fast.online.compaction.merge import counted_clicks
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender

N_ITEMS, PAST = 1000, 20_000
RISE, SLACK = 0.1, 8 << 20  # share of the earlier peak, and bytes, by which the later one may exceed it
AGREEMENT = 0.99  # share of equal top-20 places with a rebuild; docs/performance.md explains why not all
_SPAN_MS, _KEEP_DAYS = 8 * 3_600_000, 1 / 24
_CHUNK, _COMPACTIONS, _MIN_COMPACTION_SECONDS, _MAX_COMPACTION_SECONDS = 20_000, 12, 1.0, 60.0
_ASKED, _SAMPLES = 200, 400
_QUIET = 0.9  # share of the run after which no compaction starts
_WARM_UP, _MIN_COMPACTIONS, _OVERTIME = 2, 4, 0.1  # compactions; share of the rate after the run's end
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class LearningOutcome:
    """The result of a soak.

    held_back: events that were not sent, since more than `max_backlog` others were not learned yet; a service refuses
    such events. refused: events that were not learned. earlier, later: peaks of resident bytes. agreement: share of
    places equal to those of tables rebuilt from all sessions. differing: rankings that differ from a fresh process's.
    """

    events: int
    held_back: int
    rankings: int
    seconds: float
    compactions: int
    refused: int
    earlier: int
    later: int
    agreement: float
    differing: int

    @property
    def grew(self) -> bool:
        """Whether memory use rose by more than RISE and SLACK."""
        return self.later > self.earlier * (1 + RISE) + SLACK

    @property
    def failed(self) -> bool:
        """Whether anything was wrong."""
        return self.grew or self.agreement < AGREEMENT or self.differing > 0 or self.refused > 0

    def __str__(self) -> str:
        return (
            f"{self.events} events ({self.held_back} held back) and {self.rankings} rankings in {self.seconds:.0f} s, "
            f"{self.compactions} compactions, {self.refused} events refused; peaks of {self.earlier / 1e6:.1f} and "
            f"then {self.later / 1e6:.1f} MB; {self.agreement:.2%} of the places as in a rebuild, {self.differing} "
            "rankings differ from a fresh process's"
        )


def learning_soak(folder: Path, seconds: float, rate: float) -> LearningOutcome:
    """Observe `rate` events per second for at least so many seconds, and rank in the remaining time."""
    from tests.soak import resident_bytes

    shop = make_shop(N_ITEMS, PAST, _CHUNK)
    settings = LearningSettings(folder / "learned", compact=False, retention_days=_KEEP_DAYS, limits=ALL)
    bundle = shop.saved(folder / "bundle")
    rec = Recommender.load(bundle, learn=settings, verify=False)
    learner = rec.learner
    assert learner is not None
    sessions = _external(queries(shop.later, _ASKED))
    clicks = _endless(shop, max(1, round(_SPAN_MS / max(seconds * rate, 1))))
    interval = min(max(seconds / _COMPACTIONS, _MIN_COMPACTION_SECONDS), _MAX_COMPACTION_SECONDS)
    events = held_back = rankings = compactions = 0
    samples: list[tuple[float, int]] = []
    served = rec.bundle
    begin = time.monotonic()
    next_compaction = begin + interval
    while (now := time.monotonic()) - begin < seconds or (
        compactions < _MIN_COMPACTIONS and now - begin < seconds + _PATIENCE
    ):
        due = rate * (min(now - begin, seconds) + _OVERTIME * max(now - begin - seconds, 0))
        while events + held_back < due:
            if learner.follower.lag > settings.max_backlog:
                held_back = round(due) - events
                break
            click = next(clicks)
            rec.observe(click.session, [click.item], at=click.time)
            events += 1
        rec.recommend(sessions[rankings % len(sessions)], 20)
        rankings += 1
        wanted = now >= next_compaction and (now - begin < _QUIET * seconds or compactions < _MIN_COMPACTIONS)
        if wanted and (learner.compactions.latest is None or learner.compactions.latest.poll() is not None):
            learner.compact()
            next_compaction = now + interval
        if not samples or now - begin - samples[-1][0] > seconds / _SAMPLES:
            samples.append((now - begin, resident_bytes()))
            if rec.bundle is not served:
                served, compactions = rec.bundle, compactions + 1
                if compactions == _WARM_UP:
                    samples.clear()
    elapsed = time.monotonic() - begin
    _settle(rec, bundle, settings)
    compactions += rec.bundle is not served
    compared = _compared(rec, bundle, settings, sessions, folder)
    rec.close()
    sizes = [size for _, size in samples]
    assert compactions >= _MIN_COMPACTIONS, f"only {compactions} compactions in {elapsed:.0f} s"
    return LearningOutcome(
        events,
        held_back,
        rankings,
        elapsed,
        compactions,
        learner.state.event_processor.tracker.refused.total(),
        max(sizes[: len(sizes) // 2]),
        max(sizes[len(sizes) // 2 :]),
        *compared,
    )


def _endless(shop: Shop, step: int) -> Iterator[Click]:
    """Yield clicks of ever new sessions, `step` ms apart."""
    chunk = 0
    while True:
        begin = MORNING + chunk * _CHUNK * step
        yield from stream(shop.later, _CHUNK, seed=chunk, begin=begin, step=step).clicks(f"c{chunk}-")
        chunk += 1


def _settle(rec: Recommender, bundle: Path, settings: LearningSettings) -> None:
    """Wait until the last compaction is served and every event is learned."""
    learner = rec.learner
    assert learner is not None
    if learner.compactions.latest is not None:
        code = learner.compactions.latest.wait(_PATIENCE)
        assert code in (0, BUSY)
        if code == BUSY:  # a slow compaction was still running: finish after it
            compact_folder(bundle, settings, wait=True)
    newest = current_bundle(bundle, settings.folder, verify=False).manifest
    end = learner.log.read(learner.position)
    position = end[-1].position if end else learner.position
    deadline = time.monotonic() + _PATIENCE
    while rec.bundle.manifest != newest or learner.position < position:
        assert time.monotonic() < deadline, f"the log was not learned up to {position}"
        time.sleep(0.05)


def _compared(
    rec: Recommender, bundle: Path, settings: LearningSettings, asked: Sequence[Sequence[int]], folder: Path
) -> tuple[float, int]:
    """Return the share of top-20 places that equal those of tables rebuilt from all sessions, and the number of
    rankings that differ from those of a fresh process that reads the same log."""
    assert rec.learner is not None
    _, items, offsets = rec.learner.state.delta.ordered()
    compacted = Sessions(items, offsets)
    known = _strangers(Sessions.from_lists([[item - 1 for item in session] for session in asked]), compacted)
    mine, scores = rec.rank(known, 20)
    fresh = Recommender.load(bundle, learn=settings, verify=False)
    theirs, others = fresh.rank(known, 20)
    fresh.close()
    differing = (mine != theirs).any(axis=1) | (scores != others).any(axis=1)
    model = rec.bundle.model
    assert model.memory is not None
    whole = _with_memory(model, Sessions.concatenate([model.memory.sessions, compacted]))
    rebuilt = Recommender.load(Shop(whole, whole.memory.sessions).saved(folder / "rebuilt"), verify=False)
    return float((mine == rebuilt.rank(known, 20)[0]).mean()), int(differing.sum())


def _strangers(query_sessions: Sessions, learned: Sessions) -> Sessions:
    """Return the query sessions that equal no learned session, which would count as evidence for itself."""
    known = {clicks.tobytes() for clicks in learned}
    return Sessions.from_lists([clicks for clicks in query_sessions if clicks.tobytes() not in known])


def _external(sessions: Sessions) -> list[list[int]]:
    """Return sessions of external ids."""
    return [(clicks + 1).tolist() for clicks in sessions]


def _with_memory(model: Model, sessions: Sessions) -> Model:
    """Return the model with its memory built from its sessions and learned ones after them, which count once."""
    assert model.memory is not None
    settings = model.memory.settings
    first = model.memory.n_sessions if settings.once_from is None else settings.once_from
    return Model.of(
        config=model.config,
        weights=model.weights,
        ids=model.ids,
        popularity=counted_clicks(sessions, np.arange(len(sessions)) >= first, model.n_items),
        memory=MemoryTables.build(sessions, model.n_items, replace(settings, once_from=first)),
        ranker_net=model.ranker_net,
    )
