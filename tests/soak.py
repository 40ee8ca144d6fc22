"""Soak: many mixed calls on one Recommender. Its answers must stay the same and its memory use must not grow.

    python -m tests.soak --calls 10000000 --seconds 1200
    python -m tests.soak --memory --calls 1000000        a bundle with a session memory
    python -m tests.soak --learn --seconds 3600 --rate 2000        one that learns while it ranks (tests.soak_learning)

Memory use is the process's resident anonymous memory (Linux), sampled between calls. After a warm-up, in which caches
and arenas fill, a leak of one small object per call shows as tens of bytes per call; BOUND is far below that.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

N_ITEMS, D, MAX_LEN = 1000, 32, 20
BOUND = 1.0  # bytes per call that the fitted line may rise
SLACK = 256 << 10  # bytes that it may rise in total, however short the run: the allocator's arenas
_REQUESTS = 300
_SAMPLES = 200
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Outcome:
    """The result of a soak: calls, seconds, resident bytes at the end of the warm-up and of the run, the rise of a line
    fitted to the samples after the warm-up (total bytes, and per call), and calls whose answer had changed."""

    calls: int
    seconds: float
    warm_bytes: int
    last_bytes: int
    rise: float
    rise_per_call: float
    changed: int

    @property
    def grew(self) -> bool:
        """Whether memory use grew by more than SLACK in total and BOUND per call."""
        return self.rise > SLACK and self.rise_per_call > BOUND

    def __str__(self) -> str:
        return (
            f"{self.calls} calls in {self.seconds:.0f} s, {self.changed} changed answers; resident {self.warm_bytes} "
            f"bytes after the warm-up, {self.last_bytes} at the end, {self.rise_per_call:+.4f} bytes per call"
        )


def recommender(folder: Path, memory: bool = False) -> Recommender:
    """Return a recommender of a random bundle, saved in `folder`; memory: with a session memory."""
    parts = bundle_parts(n_items=N_ITEMS, embedding_dim=D, max_session_length=MAX_LEN) | (
        memory_parts(N_ITEMS) if memory else {}
    )
    save_parts(folder, **parts)
    return Recommender.load(folder)


def requests(rec: Recommender, seed: int = 0) -> list[Callable[[], Any]]:
    """Return mixed calls, each of which must always give the same answer."""
    rng = Random(seed)
    prepared = [rec.filter(exclude=_some(rng, 200)) for _ in range(8)]
    makers: list[Callable[[], Callable[[], Any]]] = [
        lambda: _recommend(rec, rng, {}),
        lambda: _recommend(rec, rng, {"exclude_seen": True, "repeats": True, "timings": False}),
        lambda: _recommend(rec, rng, {"filter": rng.choice(prepared)}),
        lambda: _recommend(rec, rng, {"exclude": _some(rng, 12), "allow": _some(rng, 60)}),
        lambda: _visit(rec, rng),
        lambda: _batch(rec, rng),
        lambda: _similar(rec, rng),
        lambda: _filter(rec, rng),
    ]
    # A service makes mostly single calls.
    weights = [30, 15, 15, 10, 15, 3, 8, 4]
    if rec.bundle.memory is not None:
        composed = _updated(rec)
        makers += [
            lambda: _similar(rec, rng, by="sessions"),
            lambda: _recommend(rec, rng, {"reasons": True}),
            lambda: _recommend(composed, rng, {"exclude_seen": True}),
            lambda: _recommend(composed, rng, {"filter": rng.choice(prepared)}),
        ]
        weights += [4, 4, 6, 4]
    return [maker() for maker in rng.choices(makers, weights, k=_REQUESTS)]


def soak(rec: Recommender, calls: int, seconds: float, warm_up: float = 0.1) -> Outcome:
    """Make up to `calls` calls, or as many as fit into `seconds`.

    warm_up: the share of the run that is not judged. Arenas fill over about the first 50,000 calls.
    """
    asks = requests(rec)
    first = [_digest(ask()) for ask in asks]
    rng = Random(1)
    changed = count = 0
    samples: list[tuple[int, int, float]] = []  # calls done, resident bytes, seconds
    start = time.monotonic()
    while count < calls and (elapsed := time.monotonic() - start) < seconds:
        # Often enough for _SAMPLES of them, by whichever limit comes first.
        if not samples or count - samples[-1][0] >= calls / _SAMPLES or elapsed - samples[-1][2] >= seconds / _SAMPLES:
            samples.append((count, resident_bytes(), elapsed))
        for _ in range(min(100, calls - count)):
            number = rng.randrange(len(asks))
            changed += _digest(asks[number]()) != first[number]
            count += 1
    gc.collect()
    samples.append((count, resident_bytes(), time.monotonic() - start))
    steady = [sample for sample in samples if sample[0] >= warm_up * count]
    call_counts, size = np.array([s[0] for s in steady], float), np.array([s[1] for s in steady], float)
    slope = float(np.polyfit(call_counts - call_counts[0], size, 1)[0]) if len(steady) > 2 else 0.0
    rise = slope * (call_counts[-1] - call_counts[0])
    return Outcome(count, samples[-1][2], steady[0][1], steady[-1][1], rise, slope, changed)


def resident_bytes() -> int:
    """Return the resident anonymous memory of this process in bytes; needs Linux."""
    match = re.search(r"^RssAnon:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) << 10


def _some(rng: Random, count: int) -> list[Any]:
    return [f"sku-{rng.randrange(N_ITEMS)}" for _ in range(count)]


def _session(rng: Random) -> list[Any]:
    known = _some(rng, rng.choice((1, 3, 3, 10, MAX_LEN + 5)))
    return known if rng.random() < 0.8 else [*known, "nobody", rng.randrange(9)]


def _recommend(rec: Recommender, rng: Random, options: dict[str, Any]) -> Callable[[], Any]:
    session, k = _session(rng), rng.choice((1, 20, 20, 20, 100))
    return lambda: rec.recommend(session, k, **options)


def _visit(rec: Recommender, rng: Random) -> Callable[[], Any]:
    first, later = _session(rng), _some(rng, 4)

    def ask() -> Any:
        visit = rec.session(first)
        return [visit.click(item).recommend(20) for item in later]

    return ask


def _batch(rec: Recommender, rng: Random) -> Callable[[], Any]:
    sessions = [_session(rng) for _ in range(8)] + [[]]
    return lambda: rec.recommend_batch(sessions, 20, exclude_seen=True)


def _similar(rec: Recommender, rng: Random, by: Any = "vectors") -> Callable[[], Any]:
    (item,) = _some(rng, 1)
    return lambda: rec.similar_items(item, 20, by=by)


def _updated(rec: Recommender) -> Recommender:
    """Return a recommender of the same bundle with items added and removed."""
    other = Recommender(rec.bundle, rec.encoder, rec.index)
    other.add_items(["new-0", "new-1"], neighbors=[["sku-1", "sku-2"], ["sku-3"]])
    other.remove_items(["sku-4", "sku-5"])
    return other


def _filter(rec: Recommender, rng: Random) -> Callable[[], Any]:
    session, exclude = _session(rng), _some(rng, 300)
    return lambda: rec.recommend(session, 20, filter=rec.filter(exclude=exclude))


def _digest(answer: Any) -> int:
    """Return a hash of the bits of an answer."""
    if isinstance(answer, Recommendations):
        repeats = b"" if answer.repeats is None else answer.repeats.tobytes()
        reasons = repr(answer.reasons)
        return hash(
            (tuple(answer.items), answer.scores.tobytes(), tuple(answer.unknown), answer.fallback, repeats, reasons)
        )
    return hash(tuple(map(_digest, answer)))


def main() -> int:
    """Run the command; return the exit status: 0 if nothing grew or changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--memory", action="store_true", help="use a bundle with a session memory")
    parser.add_argument("--learn", action="store_true", help="learn events while ranking; see tests.soak_learning")
    parser.add_argument("--rate", type=float, default=2000, help="events per second, with --learn (default: 2000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.learn:
            from tests.soak_learning import learning_soak

            learned = learning_soak(Path(name), options.seconds, options.rate)
            print(learned)
            return int(learned.failed)
        outcome = soak(recommender(Path(name), options.memory), options.calls, options.seconds)
    print(outcome)
    return int(outcome.grew or outcome.changed > 0)


if __name__ == "__main__":
    sys.exit(main())
