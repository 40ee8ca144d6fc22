"""The learning soak: a process learns at a rate while it ranks; memory stays flat, its answers those of a rebuild.

    python -m tests.soak --learn --seconds 3600 --rate 2000

However long the run, its events span 8 hours of their own time, of which what is older than an hour is dropped again at
each compaction: so what is known is bounded, and what grows all the same leaks. Memory is compared by its peaks: of the
last three tenths of the run with the three before, as between two compactions it must rise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.live.inputs import MORNING, Shop, external, queries, shop, strangers, stream, with_memory
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.online.compaction.compactor import BUSY
from mtaw_fast.online.compaction.current import current_bundle
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender

N_ITEMS, PAST = 1000, 20_000
RISE, SLACK = 0.1, 8 << 20  # of the earlier peak, and bytes, that the later one may be above it
AGREEMENT = 0.99  # of the top-20 places with a rebuild; docs/performance.md has why not all
_SPAN_MS, _KEEP_DAYS = 8 * 3_600_000, 1 / 24
_CHUNK, _COMPACTIONS, _LEAST_SECONDS, _MOST_SECONDS = 20_000, 12, 1.0, 60.0
_ASKED, _SAMPLES = 200, 400
_QUIET = 0.9  # of the run: no compaction is begun after it
_PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Learning:
    """What a soak found. refused: events that taught nothing. earlier, later: peaks of resident bytes. agreement: with
    tables rebuilt from all sessions. differing: rankings that a fresh process gives otherwise.
    """

    events: int
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
        """Whether memory rose by more than RISE and SLACK."""
        return self.later > self.earlier * (1 + RISE) + SLACK

    @property
    def failed(self) -> bool:
        """Whether anything was wrong."""
        return self.grew or self.agreement < AGREEMENT or self.differing > 0 or self.refused > 0

    def __str__(self) -> str:
        return (
            f"{self.events} events and {self.rankings} rankings in {self.seconds:.0f} s, {self.compactions} "
            f"compactions, {self.refused} events refused; peaks of {self.earlier / 1e6:.1f} and then "
            f"{self.later / 1e6:.1f} MB; {self.agreement:.2%} of the places as a rebuild has them, {self.differing} "
            "rankings differ from a fresh process's"
        )


def learning_soak(folder: Path, seconds: float, rate: float) -> Learning:
    """Observe `rate` events a second for so long, and rank as often as there is time."""
    from tests.soak import resident_bytes

    made = shop(N_ITEMS, PAST, _CHUNK)
    settings = LearningSettings(folder / "learned", compact=False, retention_days=_KEEP_DAYS)
    bundle = made.saved(folder / "bundle")
    rec = Recommender.load(bundle, learn=settings, verify=False)
    learner = rec.learner
    assert learner is not None
    asked = external(queries(made.later, _ASKED))
    clicks = _endless(made, max(1, round(_SPAN_MS / max(seconds * rate, 1))))
    every = min(max(seconds / _COMPACTIONS, _LEAST_SECONDS), _MOST_SECONDS)
    events = rankings = compactions = 0
    held: list[tuple[float, int]] = []
    served = rec.bundle
    begin = time.monotonic()
    due = begin + every
    while (now := time.monotonic()) - begin < seconds:
        while events < (now - begin) * rate:
            click = next(clicks)
            rec.observe(click.session, [click.item], at=click.time)
            events += 1
        rec.recommend(asked[rankings % len(asked)], 20)
        rankings += 1
        if now >= due and now - begin < _QUIET * seconds:
            learner.compact()
            due = now + every
        if not held or now - begin - held[-1][0] > seconds / _SAMPLES:
            held.append((now - begin, resident_bytes()))
            if rec.bundle is not served:
                served, compactions = rec.bundle, compactions + 1
    taken = time.monotonic() - begin
    _settle(rec, bundle, settings)
    compared = _compared(rec, bundle, settings, asked, folder)
    rec.close()
    return Learning(
        events,
        rankings,
        taken,
        compactions,
        learner.state.event_processor.tracker.refused.total(),
        max(size for at, size in held if 0.4 * taken <= at < 0.7 * taken),
        max(size for at, size in held if at >= 0.7 * taken),
        *compared,
    )


def _endless(made: Shop, step: int) -> Iterator[Click]:
    """Clicks of ever other sessions, `step` ms apart."""
    chunk = 0
    while True:
        begin = MORNING + chunk * _CHUNK * step
        yield from stream(made.later, _CHUNK, seed=chunk, begin=begin, step=step).clicks(f"c{chunk}-")
        chunk += 1


def _settle(rec: Recommender, bundle: Path, settings: LearningSettings) -> None:
    """Wait until the last compaction is over and served, and every event learned."""
    learner = rec.learner
    assert learner is not None
    if learner._compactor is not None:
        assert learner._compactor.wait(_PATIENCE) in (0, BUSY)  # one that is slow is at it when the next is asked for
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
    """The share of top-20 places as tables of all sessions give them, and rankings that a fresh process, which reads
    the same log, gives otherwise."""
    assert rec.learner is not None
    _, items, offsets = rec.learner.state.delta.ordered()
    grown = Sessions(items, offsets)
    known = strangers(Sessions.from_lists([[item - 1 for item in session] for session in asked]), grown)
    mine, scores = rec.rank(known, 20)
    fresh = Recommender.load(bundle, learn=settings, verify=False)
    theirs, others = fresh.rank(known, 20)
    fresh.close()
    differing = (mine != theirs).any(axis=1) | (scores != others).any(axis=1)
    model = rec.bundle.model
    assert model.memory is not None
    whole = with_memory(model, Sessions.concatenate([model.memory.sessions, grown]))
    rebuilt = Recommender.load(Shop(whole, whole.memory.sessions).saved(folder / "rebuilt"), verify=False)
    return float((mine == rebuilt.rank(known, 20)[0]).mean()), int(differing.sum())
