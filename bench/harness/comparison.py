"""How every bench times: check first, then interleave, then medians with intervals.

In every round each contender has a turn in the same process, in random order, on the same inputs. A disturbance of a
shared machine then affects all of them, and the ratio of medians (resampled by whole rounds) stays meaningful.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.errors import MtawError, UsageError, require

_RESAMPLES = 1000
_UNITS = {"us": 1e6, "ms": 1e3, "s": 1.0}


class WrongAnswerError(MtawError):
    """A contender's output is wrong: its speed is not reported."""


@dataclass(frozen=True, slots=True)
class Contender:
    """Work to time. `run(i)` does it once on input number i; contenders get the same numbers."""

    name: str
    run: Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to time.

    rounds: turns of every contender. burst: timed calls a turn. settle: untimed calls before them, so that caches are
    as the contender itself leaves them. warmup: untimed calls of each at the start. seconds: rounds stop after this,
    but not before `min_rounds`.
    """

    rounds: int = 60
    burst: int = 5
    settle: int = 2
    warmup: int = 5
    seconds: float = 20.0
    min_rounds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rounds, self.burst, self.min_rounds) < 1 or min(self.settle, self.warmup) < 0:
            raise UsageError(f"bench plan {self}: rounds, burst and min_rounds must be >= 1, the others >= 0")


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """Measured calls of one contender. seconds: float64[rounds, burst]."""

    name: str
    seconds: np.ndarray

    @property
    def n(self) -> int:
        """Timed calls."""
        return self.seconds.size

    @property
    def median(self) -> float:
        """The median call, in seconds."""
        return float(np.median(self.seconds))

    def percentile(self, percent: float) -> float:
        """Return the smallest timed call that at least `percent` of the calls do not exceed, in seconds."""
        return float(np.percentile(self.seconds, percent, method="inverted_cdf"))

    def median_interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the bootstrap interval of the median over resampled rounds, in seconds."""
        return _interval(_resampled_medians(self.seconds), level)


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster ours is than the baseline (> 1: ours is better), with its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Floor:
    """A physical limit, measured in this process: seconds, and what they measure."""

    seconds: float
    what: str


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison: ours against any number of baselines.

    metric: its ending names the unit: `latency_us`, `latency_ms`, `epoch_s`.
    check(contender): why the contender's answer is wrong, in one line, or None. It runs before any timing, on ours
    first and then on each baseline.
    """

    name: str
    params: Mapping[str, Any]
    metric: str
    ours: Contender
    baselines: Sequence[Contender]
    check: Callable[[Contender], str | None]
    plan: Plan = Plan()
    floor: Floor | None = None

    @property
    def scale(self) -> float:
        """Units of the metric in one second."""
        unit = self.metric.rpartition("_")[2]
        if unit not in _UNITS:
            raise UsageError(f"bench metric {self.metric!r} must end in one of {', '.join('_' + u for u in _UNITS)}")
        return _UNITS[unit]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measured case: timings of ours and of the correct baselines, and why the others were refused."""

    case: Case
    ours: Timing
    baselines: Sequence[Timing]
    refused: Mapping[str, str]


def compare(case: Case) -> Comparison:
    """Check, then time a case.

    A wrong baseline is left out and named in `refused`. Raises WrongAnswerError if ours is wrong, or all baselines are.
    """
    error = case.check(case.ours)
    if error:
        raise WrongAnswerError(f"{case.name}: {case.ours.name}: {error}; no speed is reported")
    reasons = {baseline.name: case.check(baseline) for baseline in case.baselines}
    refused = {name: reason for name, reason in reasons.items() if reason}
    right = [baseline for baseline in case.baselines if baseline.name not in refused]
    if refused and not right:
        name, reason = next(iter(refused.items()))
        raise WrongAnswerError(f"{case.name}: {name}: {reason}; no speed is reported")
    ours, *others = time_interleaved([case.ours, *right], case.plan)
    return Comparison(case, ours, others, refused)


def time_interleaved(contenders: Sequence[Contender], plan: Plan) -> list[Timing]:
    """Time contenders in turns in this process; return one Timing each, in the given order, of the same rounds."""
    names = [contender.name for contender in contenders]
    if len(set(names)) != len(names):
        raise UsageError(f"bench contenders need distinct names, not {', '.join(names)}")
    rng = np.random.default_rng(plan.seed)
    for contender in contenders:
        for call in range(plan.warmup):
            contender.run(call)
    rounds: list[np.ndarray] = []
    with _quiet_collector():
        began = time.perf_counter()
        for index in range(plan.rounds):
            if index >= plan.min_rounds and time.perf_counter() - began > plan.seconds:
                break
            times = np.empty((len(contenders), plan.burst))
            for turn in rng.permutation(len(contenders)):
                times[turn] = _turn(contenders[turn].run, plan, index)
            rounds.append(times)
    measured = np.stack(rounds)
    return [Timing(name, measured[:, index]) for index, name in enumerate(names)]


def _turn(run: Callable[[int], Any], plan: Plan, index: int) -> list[float]:
    call = index * (plan.settle + plan.burst)
    for _ in range(plan.settle):
        run(call)
        call += 1
    times = []
    for _ in range(plan.burst):
        begin = time.perf_counter_ns()
        run(call)
        times.append((time.perf_counter_ns() - begin) * 1e-9)
        call += 1
    return times


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keep garbage collection on, as in a service, but exclude the objects that the bench made before."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def ratio(ours: Timing, baseline: Timing, level: float = 0.95) -> Ratio:
    """Return the baseline's median over ours; the interval resamples rounds, the same ones for both."""
    if ours.seconds.shape != baseline.seconds.shape:
        raise UsageError(
            f"bench timings {ours.name} and {baseline.name} are not of the same rounds: time them together"
        )
    resampled = _resampled_medians(baseline.seconds) / _resampled_medians(ours.seconds)
    low, high = _interval(resampled, level)
    return Ratio(baseline.median / ours.median, low, high)


def _resampled_medians(seconds: np.ndarray) -> np.ndarray:
    """Return float64[resamples] medians over rounds drawn with replacement; equal shapes draw equal rounds."""
    n_rounds = len(seconds)
    draws = np.random.default_rng(0).integers(0, n_rounds, (_RESAMPLES, n_rounds))
    return np.array([np.median(seconds[rows]) for rows in draws])


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """Limit BLAS, OpenMP, PyTorch and FAISS to `threads`, also those loaded later (by OMP_NUM_THREADS).

    Restores the settings of the loaded libraries at the end.
    """
    if threads < 1:
        raise UsageError(f"a bench needs at least one thread, not {threads}")
    threadpoolctl = require("threadpoolctl", "bench")
    with ExitStack() as stack:
        stack.callback(_restore_environment, os.environ.get("OMP_NUM_THREADS"))
        os.environ["OMP_NUM_THREADS"] = str(threads)
        stack.enter_context(threadpoolctl.threadpool_limits(threads))
        torch, faiss = sys.modules.get("torch"), sys.modules.get("faiss")
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        if faiss is not None:
            stack.callback(faiss.omp_set_num_threads, faiss.omp_get_max_threads())
            faiss.omp_set_num_threads(threads)
        yield


def _restore_environment(value: str | None) -> None:
    if value is None:
        os.environ.pop("OMP_NUM_THREADS", None)
    else:
        os.environ["OMP_NUM_THREADS"] = value
