"""What another bundle would have earned at the explored positions, from what the drawn items earned there.

Exploration draws each item from a few candidates and records the chance (`mtaw_fast.ranking.exploring`). So each
position is a draw of a contextual bandit. Another bundle would place the candidate that it ranks first; the weight w of
a draw is 1 / chance if that is the item that was drawn, and 0 if not. Three estimators of what it would have earned, y,
at a position; all else in the list stays as it was:

- `inverse propensity`: mean of w y. Unbiased. Horvitz and Thompson, "A generalization of sampling without replacement
  from a finite universe" (JASA 47, 1952); of logged rankings: Strehl, Langford, Li and Kakade, "Learning from logged
  implicit exploration data" (NIPS 2010).
- `self-normalized`: sum of w y over sum of w. Its bias falls as 1 / n, and it varies less. Swaminathan and Joachims,
  "The self-normalized estimator for counterfactual learning" (NIPS 2015).
- `doubly robust`: mean of r(chosen) + w (y - r(drawn)), where r is an item's mean earning, drawn towards that of all
  items. Unbiased whatever r is, as r comes from the other half of the sessions. Dudik, Langford and Li, "Doubly robust
  policy evaluation and learning" (ICML 2011).

Each is a ratio of sums over sessions, whose draws are not independent, and has a 95% interval by the delta method,
shifted for the skewness as in Johnson, "Modified t tests and confidence intervals for asymmetrical populations" (JASA
73, 1978).
`python -m bench.experiment --cases estimates` checks bias and coverage on logs with a known truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.sequential import FEWEST_EVENTS, event_count, ratio_of_sums, unit_sums

FEWEST_AGREEING = 100  # effective draws on which the other bundle agrees
MOST_UNKNOWN = 0.05  # share of the positions of whose candidates the bundle knows none
_MOST_ERRORS = 4.0  # standard errors of the mean weight around 1
_SHRINKAGE = 20.0  # draws of the mean of all items that an item's own are added to
_ERRORS = 1.959964  # of a 95% interval
_FOLDS = 2


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Explored positions, n of them, with what another bundle would have placed.

    session: int64[n], numbers from 0. chance: float64[n], of the drawn item. drawn, chosen: int64[n], numbers of the
    drawn items and of the bundle's, from 0. earned: float64[n], what the drawn item earned.
    """

    session: np.ndarray
    chance: np.ndarray
    drawn: np.ndarray
    chosen: np.ndarray
    earned: np.ndarray

    def __len__(self) -> int:
        return len(self.session)

    @property
    def weights(self) -> np.ndarray:
        """float64[n]: w."""
        return np.where(self.drawn == self.chosen, 1 / self.chance, 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate: its name, what a position earns by it, and the ends of its 95% interval."""

    name: str
    value: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimates:
    """What a bundle would have earned a position.

    recorded: what was earned. estimates: by each estimator. difference: of the doubly robust one to what was earned.
    positions, sessions: how many there are. effective: how many draws of equal weights the agreeing ones are worth:
    (sum w)^2 / sum w^2 (Kish, "Survey Sampling", 1965).
    """

    recorded: Estimate
    estimates: list[Estimate]
    difference: Estimate
    positions: int
    sessions: int
    effective: float


def estimate(draws: Draws) -> Estimates:
    """Estimate what the other bundle would have earned. Raises UsageError if the draws do not support it."""
    weights, earned = draws.weights, draws.earned
    effective = float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))
    _check_support(draws, weights, effective)
    ones = np.ones(len(draws))
    robust = doubly_robust(draws)
    return Estimates(
        recorded=_of("recorded", draws, earned, ones),
        estimates=[
            _of("inverse propensity", draws, weights * earned, ones),
            _of("self-normalized", draws, weights * earned, weights),
            _of("doubly robust", draws, robust, ones),
        ],
        difference=_of("difference", draws, robust - earned, ones),
        positions=len(draws), sessions=int(draws.session.max()) + 1, effective=effective,
    )  # fmt: skip


def doubly_robust(draws: Draws) -> np.ndarray:
    """Return float64[n]: r(chosen) + w (y - r(drawn)) of each draw."""
    n_items = int(max(draws.drawn.max(), draws.chosen.max())) + 1
    fold, result = draws.session % _FOLDS, np.empty(len(draws))
    for number in range(_FOLDS):
        here, other = fold == number, fold != number
        drawn, earned = draws.drawn[other], draws.earned[other]
        counts = np.bincount(drawn, minlength=n_items)
        mean = earned.mean() if len(earned) else 0.0
        model = (np.bincount(drawn, earned, n_items) + _SHRINKAGE * mean) / (counts + _SHRINKAGE)
        missed = draws.earned[here] - model[draws.drawn[here]]
        result[here] = model[draws.chosen[here]] + draws.weights[here] * missed
    return result


def _check_support(draws: Draws, weights: np.ndarray, effective: float) -> None:
    if effective < FEWEST_AGREEING:
        raise UsageError(
            f"the log does not support an estimate: the bundle would have placed the drawn item at {effective:.0f} "
            f"(effective) of {len(draws):,} explored positions, and {FEWEST_AGREEING} are needed; wait for more"
        )
    mean, spread = ratio_of_sums(unit_sums(*_by_session(draws, weights, np.ones(len(draws)))).sum(axis=1))
    if abs(mean - 1) > _MOST_ERRORS * math.sqrt(spread / (draws.session.max() + 1)):
        raise UsageError(
            f"the log does not support an estimate: the weights of its draws have the mean {mean:.3f} instead of 1, so "
            "rankings are missing, or were not drawn with the recorded chances"
        )
    earned, ones = _by_session(draws, draws.earned, np.ones(len(draws)))
    events = float(event_count(unit_sums(earned, ones).sum(axis=1)))
    if events < FEWEST_EVENTS:
        raise UsageError(
            f"the log does not support an estimate: explored positions earned {events:.0f} events, and {FEWEST_EVENTS} "
            "are needed; wait for more feedback"
        )


def _by_session(draws: Draws, *columns: np.ndarray) -> list[np.ndarray]:
    """Return the sums of columns over each session, float64[sessions] each."""
    return [np.bincount(draws.session, column) for column in columns]


def _of(name: str, draws: Draws, over: np.ndarray, under: np.ndarray) -> Estimate:
    """Return a ratio of sums and its interval."""
    overs, unders = _by_session(draws, over, under)
    value, spread = ratio_of_sums(unit_sums(overs, unders).sum(axis=1))
    missed = overs - value * unders
    squares = float((missed**2).sum())
    shift = float((missed**3).sum()) / (6 * squares * unders.sum()) if squares else 0.0
    width = _ERRORS * math.sqrt(spread / len(overs))
    return Estimate(name, value, (value + shift - width, value + shift + width))
