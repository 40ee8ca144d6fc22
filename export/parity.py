"""Whether exported graphs answer as the model does: every variant in ONNX Runtime against the eager model.

Axes: B sessions, L clicks of the longest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.ranking.encoders.eager import EagerEncoder
from mtaw_fast.ranking.retrieval import make_index

K = 20
TOLERANCE = 1e-4  # of a float32 score
# Items whose true scores are this close may stand in either order: twice the largest error of a float32 score that
# was met (2.5e-5, over 5,000 sessions of Tmall).
TIE = 5e-5
_RANDOM = 96  # sessions drawn at random
_RANDOM_CLICKS = 50  # of the longest of them
_TOGETHER = 8  # sessions of one padded batch

Graph = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What the eager model says of sessions: its queries float32[B, d], and of their top k the ids int32[B, k] and
    scores float32[B, k], by the exact index."""

    bundle: Bundle
    sessions: Sessions
    queries: np.ndarray
    ids: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, bundle: Bundle, sessions: Sessions) -> Truth:
        """Ask the eager model."""
        queries = EagerEncoder(bundle.config, bundle.weights).encode(sessions)
        index = make_index("scan", bundle.item_vectors, bundle.scan)
        ids, scores = index.search(queries, min(K, bundle.n_items), scale=bundle.config.scale)
        return cls(bundle, sessions, queries, ids, scores)

    def score_of(self, ids: np.ndarray) -> np.ndarray:
        """float64[B, k]: the true scores of items int[B, k]."""
        rows = self.bundle.item_vectors[ids].astype(np.float64)
        return self.bundle.config.scale * np.einsum("bkd,bd->bk", rows, self.queries.astype(np.float64))


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a variant of the graphs is from the eager model.

    sessions: how many were compared, each alone and in a padded batch. query_error: largest difference of a
    coordinate of a query (encoder). score_error: largest difference of a score from the item's true one. misplaced:
    places of a top 20 whose item is neither the true one nor ties with it. overlap: share of the true top 20 that the
    graph's top 20 holds, on average; least_overlap: of the worst session.
    """

    sessions: int
    query_error: float
    score_error: float
    misplaced: int
    overlap: float
    least_overlap: float

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain JSON values, the errors to three digits."""
        errors = {name: float(f"{getattr(self, name):.3g}") for name in ("query_error", "score_error")}
        shares = {name: round(getattr(self, name), 4) for name in ("overlap", "least_overlap")}
        return {"sessions": self.sessions, **errors, "misplaced": self.misplaced, **shares}


@dataclass(slots=True)
class _Tally:
    query_error: float = 0.0
    score_error: float = 0.0
    misplaced: int = 0
    shares: list[float] = field(default_factory=list)


def edge_sessions(bundle: Bundle, seed: int) -> Sessions:
    """Sessions at the borders (1 click, max_len clicks and more, all the same item) and random ones."""
    rng = np.random.default_rng(seed)
    n_items, most = bundle.n_items, bundle.config.max_len
    weight = bundle.popularity + 1.0
    edges = [[0], [n_items - 1], [n_items // 2] * 2, [0] * most, [n_items - 1] * most]
    edges += [rng.integers(0, n_items, length).tolist() for length in (1, most - 1, most, most + 1, most + 9) if length]
    lengths = rng.integers(1, min(_RANDOM_CLICKS, most) + 1, _RANDOM)
    drawn = [
        rng.choice(n_items, length, p=weight / weight.sum()) if place % 2 else rng.integers(0, n_items, length)
        for place, length in enumerate(lengths)
    ]
    # Shuffled, so that short and long ones stand in one padded batch.
    everything = [*edges, *drawn]
    return Sessions.from_lists([everything[place] for place in rng.permutation(len(everything))])


def open_graph(path: Path) -> Graph:
    """A graph in ONNX Runtime: one thread of the CPU, every output for a feed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} does not take {path.name} ({reason})") from None
    return lambda feed: session.run(None, feed)


def padded(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """(ids int32[B, L] filled up with -1, lengths int32[B]): what the encoder graph takes."""
    lengths = sessions.lengths.astype(np.int32)
    ids = np.full((len(sessions), int(lengths.max(initial=1))), -1, dtype=np.int32)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = sessions.items
    return ids, lengths


def measure(truth: Truth, encoder: Graph, recommender: Graph) -> Parity:
    """Run both graphs on every session alone and in padded batches of several."""
    tally = _Tally()
    for width in (1, _TOGETHER):
        for begin in range(0, len(truth.sessions), width):
            _compare(truth, slice(begin, begin + width), encoder, recommender, tally)
    return Parity(
        len(truth.sessions),
        tally.query_error,
        tally.score_error,
        tally.misplaced,
        float(np.mean(tally.shares)),
        min(tally.shares),
    )


def _compare(truth: Truth, rows: slice, encoder: Graph, recommender: Graph, tally: _Tally) -> None:
    ids, lengths = padded(truth.sessions.slice(rows.start, rows.stop))
    here = Truth(truth.bundle, truth.sessions, truth.queries[rows], truth.ids[rows], truth.scores[rows])
    (queries,) = encoder({"ids": ids, "lengths": lengths})
    items, scores = recommender({"ids": ids, "k": np.array([truth.ids.shape[1]], dtype=np.int32)})
    if queries.shape != here.queries.shape or items.shape != here.ids.shape or scores.shape != here.ids.shape:
        raise BundleError(
            f"the exported graphs give {list(queries.shape)} queries and {list(items.shape)} items where "
            f"{list(here.queries.shape)} and {list(here.ids.shape)} belong"
        )
    real = here.score_of(items)
    tally.query_error = max(tally.query_error, _largest(queries - here.queries))
    tally.score_error = max(tally.score_error, _largest(scores - real))
    # The true scores at each place: an item that ties with the one that belongs there has them too.
    tally.misplaced += int(np.count_nonzero(~(np.abs(real - here.scores) <= TIE)))
    tally.shares += [len(np.intersect1d(*pair)) / len(pair[0]) for pair in zip(items, here.ids, strict=True)]


def _largest(differences: np.ndarray) -> float:
    """The largest magnitude; infinite where one is not a number."""
    largest = float(np.abs(differences).max())
    return largest if largest == largest else float("inf")
