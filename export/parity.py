"""Compare exported graphs with the model: the encoder with that of PyTorch, the rest with the Recommender.

On edge cases and random sessions (`measure`), and on the test split of a data set (`compare`).

Axes: B sessions, L clicks of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.evaluation import Evaluated
from mtaw_fast.evaluation.metrics import gains_of, listed_rank, means_of
from mtaw_fast.export.graph_ranker import Feeds, Run, padded
from mtaw_fast.ranking.encoders.torch_encoder import TorchEncoder
from mtaw_fast.recommender import Recommender

K = 20
MIN_EQUAL = 99.9  # least percent of positions where a float32 graph has the same item
# Most percent of positions with another item and score: if past sessions or candidates at a cut differ only in the last
# bit of a float32 sum, either may be chosen.
MAX_APART = 0.01
MAX_P = {"float32": 0.02, "fp16": 0.1, "int8": 0.1}  # largest difference of P@20 to the Recommender, in points
_CHUNK = 512  # samples ranked at a time
TOLERANCE = 1e-4  # of a float32 score, and of a query's coordinate; of scores over 1 relative
_RANDOM = 96  # sessions drawn at random
_RANDOM_CLICKS = 50  # of the longest random session
_BATCH = 8  # sessions of one padded batch
_MAX_EXCLUDED = 5
_SPANS = (0, 60_000, 86_400_000)  # ms after the newest click that the model knows


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The product's answers for sessions.

    queries: the PyTorch model's queries float32[B, d], if requested. conditions: keywords of `Feeds.of`, for each batch
    of 8 sessions. answers: the Recommender's top 20 under them, (items, scores) for each session.
    """

    bundle: Bundle
    sessions: Sessions
    queries: np.ndarray | None
    conditions: list[dict[str, Any]]
    answers: list[tuple[list[Any], np.ndarray]]

    @classmethod
    def of(cls, bundle: Bundle, sessions: Sessions, seed: int = 0, encoder: bool = True) -> Truth:
        """Run the PyTorch model, if `encoder`, and the Recommender."""
        queries = _torch_queries(bundle, sessions) if encoder else None
        conditions = random_conditions(bundle, -(-len(sessions) // _BATCH), seed)
        served = Recommender.load(bundle.folder, encoder="native", index="native", verify=False)
        answers = []
        for row, clicks in enumerate(sessions):
            options = dict(conditions[row // _BATCH])
            answer = served.recommend(bundle.ids.external(clicks), K, at=options.pop("now"), **options)
            answers.append((answer.items, answer.scores))
        return cls(bundle, sessions, queries, conditions, answers)


def _torch_queries(bundle: Bundle, sessions: Sessions) -> np.ndarray:
    """Return float32[B, d], by one thread: sessions are too short for more threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return TorchEncoder(bundle.config, bundle.weights).encode(sessions)
    finally:
        torch.set_num_threads(threads)


def random_conditions(bundle: Bundle, count: int, seed: int) -> list[dict[str, Any]]:
    """Return `count` random conditions: none, some items excluded, only some allowed, the session's own left out."""
    rng = np.random.default_rng(seed + 1)
    n, trends = bundle.n_items, bundle.model.trends
    conditions = []
    for kind in range(count):
        exclude = rng.choice(n, min(n - 1, _MAX_EXCLUDED) if kind % 4 == 1 else 0, replace=False).astype(np.int32)
        allow = np.flatnonzero(rng.random(n) < 0.5) if kind % 4 == 2 else None
        now = None if trends is None else int(trends.clock[-1]) + _SPANS[kind % len(_SPANS)]
        conditions.append(
            {
                "exclude": bundle.ids.external(exclude),
                "allow": None if allow is None else bundle.ids.external(allow.astype(np.int32)),
                "exclude_seen": kind % 4 == 3,
                "now": now,
            }
        )
    return conditions


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a variant of the graphs is from the model.

    sessions: how many were compared, each alone and in a padded batch. query_error: largest difference of a coordinate
    of a query (encoder). Of the top 20: score_error, the largest difference of the scores at one position; misplaced,
    positions whose scores differ by more than 1e-4; places_equal, the share of positions with the same item; overlap,
    the mean share of the Recommender's items in the graph's top 20; least_overlap, that of the worst session.
    """

    sessions: int
    query_error: float
    score_error: float
    misplaced: int
    places_equal: float
    overlap: float
    least_overlap: float

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values, the errors to three digits."""
        errors = {name: float(f"{getattr(self, name):.3g}") for name in ("query_error", "score_error")}
        shares = {name: round(getattr(self, name), 4) for name in ("places_equal", "overlap", "least_overlap")}
        return {"sessions": self.sessions, **errors, "misplaced": self.misplaced, **shares}


@dataclass(slots=True)
class _Sums:
    query_error: float = 0.0
    score_error: float = 0.0
    misplaced: int = 0
    equal: int = 0
    positions: int = 0
    shares: list[float] = field(default_factory=list)


def edge_sessions(bundle: Bundle, seed: int) -> Sessions:
    """Return edge cases (1 click, max_session_length clicks and more, all the same item) and random sessions."""
    rng = np.random.default_rng(seed)
    n_items, max_length = bundle.n_items, bundle.config.model.max_session_length
    weight = bundle.popularity + 1.0
    edges = [[0], [n_items - 1], [n_items // 2] * 2, [0] * max_length, [n_items - 1] * max_length]
    edges += [
        rng.integers(0, n_items, length).tolist()
        for length in (1, max_length - 1, max_length, max_length + 1, max_length + 9)
        if length
    ]
    lengths = rng.integers(1, min(_RANDOM_CLICKS, max_length) + 1, _RANDOM)
    drawn = [
        rng.choice(n_items, length, p=weight / weight.sum()) if number % 2 else rng.integers(0, n_items, length)
        for number, length in enumerate(lengths)
    ]
    # Shuffled, so that a padded batch has short and long sessions.
    lists = [*edges, *drawn]
    return Sessions.from_lists([lists[number] for number in rng.permutation(len(lists))])


def measure(truth: Truth, encoder: Run | None, recommender: Run | None) -> Parity:
    """Run the given graphs on every session alone and in padded batches."""
    sums = _Sums()
    for width in (1, _BATCH):
        for begin in range(0, len(truth.sessions), width):
            rows = slice(begin, min(begin + width, len(truth.sessions)))
            if encoder is not None:
                _compare_queries(truth, rows, encoder, sums)
            if recommender is not None:
                _compare_rankings(truth, rows, recommender, sums)
    return Parity(
        len(truth.sessions),
        sums.query_error,
        sums.score_error,
        sums.misplaced,
        sums.equal / max(sums.positions, 1),
        float(np.mean(sums.shares)) if sums.shares else 1.0,
        min(sums.shares, default=1.0),
    )


def _compare_queries(truth: Truth, rows: slice, encoder: Run, sums: _Sums) -> None:
    ids, lengths = padded(truth.sessions.slice(rows.start, rows.stop))
    (queries,) = encoder({"ids": ids, "lengths": lengths})
    assert truth.queries is not None
    expected = truth.queries[rows]
    if queries.shape != expected.shape:
        raise BundleError(f"the exported graph gives queries {list(queries.shape)} instead of {list(expected.shape)}")
    sums.query_error = max(sums.query_error, _largest(queries - expected))


def _compare_rankings(truth: Truth, rows: slice, recommender: Run, sums: _Sums) -> None:
    clicks = [truth.bundle.ids.external(session) for session in truth.sessions.slice(rows.start, rows.stop)]
    items, scores = recommender(Feeds(truth.bundle).of(clicks, K, **truth.conditions[rows.start // _BATCH]))
    shape = (len(clicks), K)
    if items.shape != shape or scores.shape != shape:
        raise BundleError(f"the exported graph gives {list(items.shape)} items instead of {list(shape)}")
    for (true_items, true_scores), ranked, values in zip(truth.answers[rows], items, scores, strict=True):
        count = len(true_items)
        if count < K and not (np.isneginf(values[count:]).all() and all(value in ("", -1) for value in ranked[count:])):
            sums.misplaced += K - count
        error = np.abs(values[:count] - true_scores) / np.maximum(np.abs(true_scores), 1)
        sums.score_error = max(sums.score_error, _largest(error))
        sums.misplaced += int(np.count_nonzero(~(error <= TOLERANCE)))
        top_items = list(ranked[:count])
        sums.equal += sum(item == true_item for item, true_item in zip(top_items, true_items, strict=True))
        sums.positions += count
        if count:
            sums.shares.append(len(set(top_items) & set(true_items)) / count)


def _largest(differences: np.ndarray) -> float:
    """Return the largest magnitude; infinity if one is not a number."""
    largest = float(np.abs(differences).max(initial=0))
    return largest if largest == largest else float("inf")


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of one ranker, in percent.

    places_equal: the share of the top-20 positions with the Recommender's item. apart: positions with another item
    whose score differs by more than 1e-4 from the Recommender's. places: all positions.
    """

    p: float
    mrr: float
    places_equal: float = 100.0
    apart: int = 0
    places: int = 0

    def as_dict(self, alone: bool = False) -> dict[str, Any]:
        """Return JSON values. alone: only P@20 and MRR@20."""
        means: dict[str, Any] = {"P@20": round(self.p, 3), "MRR@20": round(self.mrr, 3)}
        if alone:
            return means
        return means | {"places_equal": round(self.places_equal, 3), "places_apart": self.apart, "places": self.places}


def compare(
    samples: Samples, served: Evaluated, rankers: Mapping[str, Evaluated], say: Callable[[str], None]
) -> dict[str, Quality]:
    """Return the quality of the Recommender ('recommender') and of every ranker, by name, on all samples."""
    ranks = {name: np.zeros(len(samples), np.int32) for name in ("recommender", *rankers)}
    equal, apart = dict.fromkeys(rankers, 0), dict.fromkeys(rankers, 0)
    n_positions = 0
    for begin in range(0, len(samples), _CHUNK):
        end = min(begin + _CHUNK, len(samples))
        prefixes, targets = samples.prefixes.slice(begin, end), samples.targets[begin:end]
        served_ids, served_scores = served.rank(prefixes, K + 1)
        ranks["recommender"][begin:end] = _within(listed_rank(served_ids, served_scores, targets))
        real = served_ids[:, :K] >= 0
        n_positions += int(real.sum())
        for name, ranker in rankers.items():
            ids, scores = ranker.rank(prefixes, K + 1)
            ranks[name][begin:end] = _within(listed_rank(ids, scores, targets))
            is_same = ids[:, :K] == served_ids[:, :K]
            is_near = np.abs(scores[:, :K] - np.where(real, served_scores[:, :K], 0)) <= TOLERANCE
            equal[name] += int((is_same & real).sum())
            apart[name] += int((~is_same & ~is_near & real).sum())
        say(f"ranked {end} of {len(samples)} test samples")
    qualities = {}
    for name, ranker_ranks in ranks.items():
        means = means_of(gains_of(ranker_ranks))
        share = 100 * equal[name] / max(n_positions, 1) if name in equal else 100.0
        qualities[name] = Quality(means["P@20"], means["MRR@20"], share, apart.get(name, 0), n_positions)
    return qualities


def shortfall(variant: str, part: str, quality: Quality, served: Quality) -> str | None:
    """Return why a whole graph is too different from the Recommender, or None."""
    if part == "encoder":
        return None
    if abs(quality.p - served.p) > MAX_P[variant]:
        return f"its P@20 is {quality.p:.2f}, the Recommender's {served.p:.2f}"
    if variant == "float32" and (quality.places_equal < MIN_EQUAL or 100 * quality.apart > MAX_APART * quality.places):
        return f"{quality.places_equal:.3f}% of the ranks are equal, {quality.apart} have another score"
    return None


def _within(ranks: np.ndarray) -> np.ndarray:
    return np.where(ranks <= K, ranks, 0)
