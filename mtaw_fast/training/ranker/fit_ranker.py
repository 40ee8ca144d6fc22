"""Fit the ranker of the session memory: softmax cross-entropy over the candidates of past prefixes.

Axes: Q queries (prefixes), C candidates of a query at most, F features.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.ranker_net import TYPE_PREFIX, feature_bounds
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.progress import LossCurve, Reporter

HIDDEN = (64, 32)
WARMUP_SHARE = 0.05  # of all steps
LENGTH_POWER = 0.5  # a query weighs length^0.5: long prefixes are rarer, but matter as much
_SAMPLE = 2048  # queries whose candidates give means and deviations
_MIN_DEVIATION = 1e-3
_RARE = 0.1  # the least deviation of a feature of types, which is 0, 0.5 or 1


class Candidates(Protocol):
    """Q numbered queries (prefixes of sessions), and the source of their candidates.

    features: the names of the F columns. targets: int32[Q], the next clicks; a query whose target is no candidate is
    skipped. lengths: int64[Q], clicks of the prefixes. weights: float32[Q], above 0, of the queries in addition to
    their lengths; None for equal ones. left_out: further queries, whose target is not a candidate.
    """

    @property
    def features(self) -> tuple[str, ...]: ...
    @property
    def targets(self) -> np.ndarray: ...
    @property
    def lengths(self) -> np.ndarray: ...
    @property
    def weights(self) -> np.ndarray | None: ...
    @property
    def left_out(self) -> int: ...

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32[q, C] padded with -1 at the end, features float32[q, C, F]) of the queries int64[q]."""
        ...


class DrawnCandidates(Candidates, Protocol):
    """`Candidates` that can draw some of a query's candidates, for `RankerFit.negatives`.

    Every target is among its query's candidates.
    """

    def drawn(self, queries: np.ndarray, negatives: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the result of `batch` with only the target and `negatives` drawn candidates of each query, or all."""
        ...


@dataclass(frozen=True, slots=True)
class RankerFit:
    """Settings of a fit.

    lr: the highest learning rate. excluded: features that get no weight. batch: queries a step. negatives: other
    candidates of a query in a step, drawn in each step (`DrawnCandidates`); 0 takes all. weight_decay: AdamW's.
    """

    epochs: int
    lr: float
    excluded: Sequence[str] = ()
    batch: int = 256
    negatives: int = 0
    weight_decay: float = 1e-5

    def kept(self, features: Sequence[str]) -> np.ndarray:
        """float32[F]: 0 for excluded features, else 1; raises UsageError if one does not exist."""
        for name in self.excluded:
            if name not in features:
                raise UsageError(
                    f"setting excluded_features: there is no feature {name!r}; choose from {', '.join(features)}"
                )
        return np.array([name not in self.excluded for name in features], dtype=np.float32)


class _Net(nn.Module):
    """score = linear(x) + MLP n-64-32-1; both output layers start at zero."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        first, second = HIDDEN
        self.linear = nn.Linear(n_features, 1)
        self.one = nn.Linear(n_features, first)
        self.two = nn.Linear(first, second)
        self.three = nn.Linear(second, 1, bias=False)
        for parameter in (self.linear.weight, self.linear.bias, self.three.weight):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """float32[n] of standardized features float32[n, F]."""
        hidden = functional.relu(self.two(functional.relu(self.one(x))))
        return (self.linear(x) + self.three(hidden))[:, 0]

    def arrays(self) -> dict[str, Tensor]:
        """Return the weights under the names of `RankerNet`, as views."""
        return {
            "linear": self.linear.weight[0],
            "w1": self.one.weight.T,
            "b1": self.one.bias,
            "w2": self.two.weight.T,
            "b2": self.two.bias,
            "w3": self.three.weight[0],
            "bias": self.linear.bias,
        }


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: a step is small, and computing the candidates needs the others."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def fit_ranker(
    candidates: Candidates,
    settings: RankerFit,
    seed: int,
    phase: str,
    reporter: Reporter,
    start: RankerNet | None = None,
) -> tuple[RankerNet, list[dict[str, Any]]]:
    """Return the ranker and a record an epoch. Equal arguments give equal bits on one machine, for any torch threads.

    start: a ranker with the same features to start from.
    Raises TrainingError if no query has its target among its candidates, or on a loss that is not finite.
    """
    if len(candidates.targets) == 0:
        raise nothing_to_learn(candidates.left_out)
    fit = _Fit(candidates, settings, seed, start)
    history = []
    for epoch in range(1, settings.epochs + 1):
        history.append(fit.epoch(epoch, phase, reporter))
        reporter.epoch_ends(history[-1])
    return fit.ranker(), history


class _Fit:
    """A ranker in training; the arguments are those of `fit_ranker`."""

    def __init__(self, candidates: Candidates, settings: RankerFit, seed: int, start: RankerNet | None) -> None:
        self.candidates, self.settings, self.seed = candidates, settings, seed
        self.weights = candidates.lengths.astype(np.float32) ** LENGTH_POWER
        if candidates.weights is not None:
            self.weights *= candidates.weights
        kept = settings.kept(candidates.features)
        if start is None:
            self.mean, scale = _standard(candidates, seed)
        else:
            self.mean, scale = np.array(start.mean), start.scale
        self.scale = scale * kept
        self.bounds = feature_bounds(candidates.features, self.mean, self.scale)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = _Net(len(self.mean))
        if start is not None:
            with torch.no_grad():
                for name, weights in self.net.arrays().items():
                    weights.copy_(torch.from_numpy(np.array(getattr(start, name))))
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
        self.steps_an_epoch = -(-len(candidates.targets) // settings.batch)
        self.step = 0

    def epoch(self, epoch: int, phase: str, reporter: Reporter) -> dict[str, Any]:
        """Pass over all queries; return the record of the epoch."""
        n_queries = len(self.candidates.targets)
        order = np.random.default_rng([self.seed, epoch]).permutation(n_queries)
        batches = np.array_split(order, self.steps_an_epoch)
        reporter.epoch_starts(phase, epoch, self.settings.epochs, n_queries)
        began, losses, used, mass = time.perf_counter(), 0.0, 0, 0.0
        curve = LossCurve(n_queries)
        steps = list(enumerate(batches, start=self.step + 1))
        for (step, queries), (ids, values) in made_ahead(partial(self._candidates, epoch), steps, 1):
            self.step = step
            hits = ids == self.candidates.targets[queries, None]
            usable = np.flatnonzero(hits.any(axis=1))
            mean_loss = 0.0
            if len(usable):
                step_loss, step_mass = self._learn(queries[usable], ids[usable], values[usable], hits[usable])
                mean_loss = step_loss / step_mass
                curve.add(len(queries), mean_loss)
                losses, mass, used = losses + step_loss, mass + step_mass, used + len(usable)
            reporter.step_done(len(queries), mean_loss)
        if used == 0:
            raise nothing_to_learn(n_queries)
        if not math.isfinite(losses):
            raise TrainingError(f"the loss is {losses} in {phase} epoch {epoch}; lower ranker_lr and start over")
        seconds = time.perf_counter() - began
        return {
            "phase": phase,
            "epoch": epoch,
            "loss": losses / mass,
            "losses": curve.losses(),
            "lr": self._learning_rate(self.step),
            "seconds": round(seconds, 3),
            "samples_per_second": round(n_queries / seconds, 1),
            "in_candidates": round(100 * used / (n_queries + self.candidates.left_out), 2),
        }

    def ranker(self) -> RankerNet:
        """Return the ranker as it is now."""
        arrays = {name: np.ascontiguousarray(weights.detach().numpy()) for name, weights in self.net.arrays().items()}
        return RankerNet(features=self.candidates.features, mean=self.mean, scale=self.scale, **arrays)

    def _candidates(self, epoch: int, step: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Make the candidates of a step: its number and queries."""
        number, queries = step
        if not self.settings.negatives:
            return self.candidates.batch(queries)
        rng = np.random.default_rng([self.seed, epoch, number])
        return cast(DrawnCandidates, self.candidates).drawn(queries, self.settings.negatives, rng)

    def _learn(self, queries: np.ndarray, ids: np.ndarray, values: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
        """Take a step; return the sums over the queries of loss times weight of the target, and of these weights."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(self.step - 1)
        valid = ids >= 0
        rows = values[valid]
        low, high = self.bounds
        for k in np.flatnonzero(np.isfinite(low)).tolist():
            np.clip(rows[:, k], low[k], high[k], out=rows[:, k])
        rows -= self.mean
        rows *= self.scale
        scores = torch.full(ids.shape, -math.inf)
        scores = scores.masked_scatter(torch.from_numpy(valid), self.net(torch.from_numpy(rows)))
        loss = functional.cross_entropy(scores, torch.from_numpy(hits.argmax(axis=1)), reduction="none")
        weight = torch.from_numpy(self.weights[queries])
        self.optimizer.zero_grad()
        ((loss * weight).sum() / weight.sum()).backward()
        self.optimizer.step()
        if self.candidates.weights is None:
            return float(loss.detach().sum()), len(queries)
        counts = torch.from_numpy(self.candidates.weights[queries])
        return float((loss.detach() * counts).sum()), float(counts.sum())

    def _learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine to 0."""
        highest, steps = self.settings.lr, self.settings.epochs * self.steps_an_epoch
        warmup = max(WARMUP_SHARE * steps, 1.0)
        if step < warmup:
            return highest * (step + 1) / (warmup + 1)
        return highest * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1.0)))


def nothing_to_learn(n_queries: int) -> TrainingError:
    """Return the error of a dataset without a query."""
    if n_queries == 0:
        return TrainingError(
            "the ranker has no sample to learn from: each click of its sessions, the last ones, has too few clicks "
            "before it, has the weight 0, or is no later than the sessions before; add sessions with later clicks or "
            "train with --preset paper"
        )
    return TrainingError(
        f"no target of the ranker's {n_queries} samples is among its candidates, so it has nothing to learn from; "
        "add sessions or train with --preset paper"
    )


def _standard(candidates: Candidates, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean, 1 / deviation) float32[F] over the candidates of some queries.

    A feature of a type that none of them has gets 0, and that of a rare one at most 1 / _RARE: few clicks must not
    count a hundredfold, whatever the weights are.
    """
    chosen = np.random.default_rng([seed, 0]).permutation(len(candidates.targets))[:_SAMPLE]
    ids, values = candidates.batch(chosen)
    rows = values[ids >= 0].astype(np.float64)
    deviation = rows.std(axis=0)
    of_types = np.array([name.startswith(TYPE_PREFIX) for name in candidates.features])
    scale = 1 / np.where(of_types, np.maximum(deviation, _RARE), deviation + _MIN_DEVIATION)
    scale[of_types & (deviation == 0)] = 0
    return rows.mean(axis=0).astype(np.float32), scale.astype(np.float32)
