"""Synthetic click logs with a known best accuracy, and random sessions for load tests.

The probability of the next click, given a prefix with last click j, is an explicit mixture (`ClickLaw`):

    P(c) =  repeat      * (recency^age of the own clicks on c, normalized over the prefix)
          + transition  * (weight of c among the planted successors of j)
          + cluster     * (popularity of c within the cluster of j)
          + the rest    * (popularity of c)

So the optimal ranking of a prefix is the one by P(c), and its chance of a hit is a plain sum.
Item popularity and session lengths follow power laws, as in the synthetic workload of ETUDE (ICDE
2024): a length l has probability ~ l^-length_exponent, and an item's number of clicks has density
~ x^-popularity_exponent, so that the r-th most popular item gets ~ r^(-1/(exponent - 1)).

Axes: T clicks, B sessions, N items, D planted successors of an item.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import UsageError

READER = "synthetic"


@dataclass(frozen=True, slots=True)
class ClickLaw:
    """The parameters of a synthetic log, except its sizes and seed.

    repeat, transition, cluster: mixture weights; the rest to 1 is the weight of the popularity draw.
    recency: the weight of a session's own click is multiplied by this for each click back.
    successors: D, planted per item, the d-th with weight ~ 1/d. between: chance that a successor is outside the item's
    cluster. clusters: their number; 0 makes one per 100 items. popularity_exponent: > 1.
    length_exponent, min_length, max_length: of whole sessions.

    Raises UsageError on a value out of range.
    """

    repeat: float = 0.3
    transition: float = 0.4
    cluster: float = 0.2
    recency: float = 0.7
    successors: int = 8
    between: float = 0.1
    clusters: int = 0
    popularity_exponent: float = 2.5
    length_exponent: float = 2.0
    min_length: int = 2
    max_length: int = 50

    def __post_init__(self) -> None:
        weights = (self.repeat, self.transition, self.cluster)
        checks = {
            "repeat": min(weights) >= 0 and sum(weights) <= 1 + 1e-9,
            "recency": 0 < self.recency < 1,
            "successors": self.successors >= 1,
            "between": 0 <= self.between <= 1,
            "clusters": self.clusters >= 0,
            "popularity_exponent": self.popularity_exponent > 1,
            "length_exponent": self.length_exponent >= 0,
            "min_length": self.min_length >= 1,
            "max_length": self.max_length >= self.min_length,
        }
        for name, ok in checks.items():
            if not ok:
                raise UsageError(f"synthetic log: {name}={getattr(self, name)} is out of range; see ClickLaw")


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """The planted structure that the law refers to, made from (N, seed, law) by `make_world`.

    popularity float64[N]: sums to 1. popular int64[N]: items by falling popularity.
    cluster int64[N]: cluster of each item. members int64[N]: the items of each cluster in turn, by falling popularity.
    bounds int64[C + 1]: where the members of a cluster begin. mass float64[C]: popularity of each cluster.
    edges float64[N + 1]: running popularity of `members`.
    successors int64[N, D] with weights float64[D], equal for all items; a successor may occur twice.
    """

    law: ClickLaw
    popularity: np.ndarray
    popular: np.ndarray
    cluster: np.ndarray
    members: np.ndarray
    bounds: np.ndarray
    mass: np.ndarray
    edges: np.ndarray
    successors: np.ndarray
    weights: np.ndarray

    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Draw items by popularity from the catalog, with uniform float64[n] in [0, 1): int64[n]."""
        return self._at(uniform * self.edges[-1], 0, len(self.members))

    def draw_within(self, clusters: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Draw items by popularity within `clusters` int[n], with uniform float64[n]: int64[n]."""
        first, last = self.bounds[clusters], self.bounds[clusters + 1]
        low, high = self.edges[first], self.edges[last]
        return self._at(low + uniform * (high - low), first, last)

    def _at(self, heights: np.ndarray, first: np.ndarray | int, last: np.ndarray | int) -> np.ndarray:
        indices = np.searchsorted(self.edges, heights, side="right") - 1
        # Rounding may push a draw one past the edge of its range.
        return self.members[np.clip(indices, first, np.asarray(last) - 1)]


def make_world(n_items: int, seed: int, law: ClickLaw) -> World:
    """Plant clusters, popularity and successors for N items."""
    generator = np.random.default_rng([seed, 0])
    popularity = _power_law_shares(n_items, law.popularity_exponent, generator)
    n_clusters = min(law.clusters or max(n_items // 100, 1), n_items)
    # A shuffled round-robin: clusters of equal size (except one), none empty.
    cluster = _shuffled(np.arange(n_items) % n_clusters, generator)
    members = np.lexsort((-popularity, cluster))
    bounds = offsets_of(np.bincount(cluster, minlength=n_clusters))
    edges = np.zeros(n_items + 1)
    np.cumsum(popularity[members], out=edges[1:])
    weights = 1 / np.arange(1, law.successors + 1)
    world = World(
        law=law,
        popularity=popularity,
        popular=np.argsort(-popularity, kind="stable"),
        cluster=cluster,
        members=members,
        bounds=bounds,
        mass=np.bincount(cluster, popularity, minlength=n_clusters),
        edges=edges,
        successors=np.empty((n_items, law.successors), np.int64),
        weights=weights / weights.sum(),
    )
    # Successors are drawn by popularity, so that transitions keep the popularity as it is on average.
    uniform = generator.random((3, n_items * law.successors))
    inside = world.draw_within(np.repeat(cluster, law.successors), uniform[1])
    outside = world.draw(uniform[2])
    world.successors[:] = np.where(uniform[0] < law.between, outside, inside).reshape(n_items, -1)
    return world


def generate(
    n_items: int = 2000,
    n_sessions: int = 20_000,
    seed: int = 0,
    law: ClickLaw | None = None,
    test_fraction: float = 0.1,
    min_prefix: int = 1,
) -> Dataset:
    """Return a data set of `n_sessions` sessions over `n_items` items; equal arguments give equal clicks.

    The last `test_fraction` of the sessions make the test samples. External ids are 1..N. The data set's `preparation`
    has the seed and the law. Raises UsageError on sizes or weights out of range.
    """
    law = law or ClickLaw()
    if not 0 < test_fraction < 1:
        raise UsageError(f"synthetic log: test_fraction must lie between 0 and 1, not {test_fraction}")
    if not 1 <= min_prefix < law.min_length:
        raise UsageError(
            f"synthetic log: min_prefix={min_prefix} must be at least 1 and below min_length={law.min_length}, "
            "so that every session holds a sample"
        )
    train, test = draw_sessions(n_items, n_sessions, seed, law).split_last(test_fraction)
    return Dataset(
        name=f"synthetic-{n_items}-{n_sessions}-{seed}",
        train=train,
        test=Samples.from_sessions(test, min_prefix),
        ids=ItemIds.from_list(list(range(1, n_items + 1))),
        min_prefix=min_prefix,
        preparation={"reader": READER, "seed": seed, "law": dataclasses.asdict(law)},
    )


def draw_sessions(n_items: int, n_sessions: int, seed: int = 0, law: ClickLaw | None = None) -> Sessions:
    """Draw the sessions of `generate`, training and test. Raises UsageError on sizes out of range."""
    if n_items < 1 or n_sessions < 2 or seed < 0:
        raise UsageError(
            f"synthetic log: n_items >= 1, n_sessions >= 2 and seed >= 0 are needed, not {n_items}, {n_sessions} and "
            f"{seed}"
        )
    law, generator = law or ClickLaw(), np.random.default_rng([seed, 1])
    return draw_clicks(make_world(n_items, seed, law), session_lengths(law, n_sessions, generator), generator)


def workload(
    n_items: int,
    n_sessions: int,
    seed: int,
    popularity_exponent: float = 2.5,
    length_exponent: float = 2.0,
    max_length: int = 50,
) -> Sessions:
    """Draw random sessions for load tests, as in ETUDE: power-law lengths 1..max_length, power-law items.

    Clicks are independent of each other: there is nothing to learn. Equal arguments give equal sessions.
    """
    law = ClickLaw(
        popularity_exponent=popularity_exponent, length_exponent=length_exponent, min_length=1, max_length=max_length
    )
    generator = np.random.default_rng([seed, 2])
    edges = np.cumsum(_power_law_shares(n_items, popularity_exponent, generator))
    lengths = session_lengths(law, n_sessions, generator)
    heights = generator.random(int(lengths.sum())) * edges[-1]
    items = np.minimum(np.searchsorted(edges, heights, side="right"), n_items - 1)
    return Sessions(items.astype(np.int32), offsets_of(lengths))


def draw_clicks(world: World, lengths: np.ndarray, generator: np.random.Generator) -> Sessions:
    """Draw whole sessions of these lengths int64[B]: in each step the next click of all sessions."""
    law = world.law
    offsets = offsets_of(lengths)
    items = np.empty(offsets[-1], dtype=np.int64)
    items[offsets[:-1]] = world.draw(generator.random(len(lengths)))
    for step in range(1, int(lengths.max())):
        clicks = offsets[:-1][lengths > step] + step
        previous = items[clicks - 1]
        kind, uniform = generator.random((2, len(clicks)))
        # The age of the repeated click, by inversion of the geometric law cut off at the prefix.
        ages = np.log1p(-uniform * (1 - law.recency**step)) / np.log(law.recency)
        repeated = items[clicks - 1 - np.minimum(ages.astype(np.int64), step - 1)]
        ranks = np.searchsorted(np.cumsum(world.weights), uniform, side="right")
        successor = world.successors[previous, np.minimum(ranks, law.successors - 1)]
        bounds = np.cumsum([law.repeat, law.transition, law.cluster])
        items[clicks] = np.select(
            [kind < bounds[0], kind < bounds[1], kind < bounds[2]],
            [repeated, successor, world.draw_within(world.cluster[previous], uniform)],
            world.draw(uniform),
        )
    return Sessions(items.astype(np.int32), offsets)


def session_lengths(law: ClickLaw, n_sessions: int, generator: np.random.Generator) -> np.ndarray:
    """Draw session lengths with P(l) ~ l^-length_exponent on min_length..max_length: int64[n_sessions]."""
    support = np.arange(law.min_length, law.max_length + 1)
    edges = np.cumsum(support.astype(np.float64) ** -law.length_exponent)
    indices = np.searchsorted(edges, generator.random(n_sessions) * edges[-1], side="right")
    return support[np.minimum(indices, len(support) - 1)]


def _power_law_shares(n_items: int, exponent: float, generator: np.random.Generator) -> np.ndarray:
    """Return the popularity of N items in random order: float64[N] with sum 1, the quantiles of a Pareto law."""
    quantiles = (np.arange(n_items) + 0.5) / n_items
    clicks = quantiles ** (-1 / (exponent - 1))
    return _shuffled(clicks / clicks.sum(), generator)


def _shuffled(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    # Sorts plain doubles, because numpy keeps only their random stream stable across releases.
    return values[np.argsort(generator.random(len(values)), kind="stable")]
