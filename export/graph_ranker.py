"""Exported graphs in ONNX Runtime as rankers, and the Recommender with the same inputs.

Axes: B sessions, L clicks of the longest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.ranked_lists import padded_lists
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.ranking.retrieval import make_index
from mtaw_fast.recommender import Recommender

_BATCH = 32  # sessions of one run

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def open_graph(path: Path, threads: int = 1) -> Run:
    """Open a graph in ONNX Runtime on threads of the CPU; return a function from a feed to every output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path.name} ({reason})") from None
    return lambda feed: session.run(None, feed)


def padded(sessions: Sessions) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of the encoder graph: ids int32[B, L] padded with -1, and lengths int32[B]."""
    lengths = sessions.lengths.astype(np.int32)
    ids = np.full((len(sessions), int(lengths.max(initial=1))), -1, dtype=np.int32)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = sessions.items
    return ids, lengths


class Feeds:
    """The inputs of a bundle's `recommender.onnx`."""

    def __init__(self, bundle: Bundle) -> None:
        text = bundle.ids.kind == "str"
        self._kind: Any = object if text else np.int64
        self._filling = "" if text else -1
        self._timed = bundle.model.trends is not None

    def of(
        self,
        sessions: Sequence[Sequence[Any]],
        k: int,
        *,
        exclude: Sequence[Any] = (),
        allow: Sequence[Any] | None = None,
        exclude_seen: bool = False,
        now: int | None = None,
        available: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Return a feed for sessions of external ids.

        now: Unix milliseconds, for bundles with trends. available: bool[N]; None: as in the bundle at the export.
        """
        lengths = np.array([len(clicks) for clicks in sessions], np.int32)
        ids = np.full((len(sessions), int(lengths.max(initial=0))), self._filling, self._kind)
        for row, clicks in enumerate(sessions):
            ids[row, : len(clicks)] = clicks
        feed = {
            "session": ids,
            "lengths": lengths,
            "k": np.array([k]),
            "exclude": np.array(list(exclude), self._kind),
            "allow": np.array(list(allow or ()), self._kind),
            "use_allow": np.array([allow is not None]),
            "exclude_seen": np.array([exclude_seen]),
        }
        if available is not None:
            feed["available"] = available
        return feed | ({"now": np.array([now or 0])} if self._timed else {})


class GraphRanker:
    """`recommender.onnx` on internal ids, as an `evaluation.Evaluated`; with trends, at a session's last click."""

    def __init__(self, bundle: Bundle, run: Run) -> None:
        self._ids, self._run, self._feeds = bundle.ids, run, Feeds(bundle)
        self._timed = bundle.model.trends is not None

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Evaluated.rank`."""
        ids, scores = padded_lists(len(sessions), k)
        size = 1 if self._timed else _BATCH
        for begin in range(0, len(sessions), size):
            rows = slice(begin, begin + size)
            chunk = sessions.slice(begin, begin + size)
            clicks = [self._ids.external(session) for session in chunk]
            items, scores[rows] = self._run(self._feeds.of(clicks, k, now=moment_of(chunk)))
            ids[rows] = self._ids.lookup(items.ravel().tolist()).reshape(items.shape)
        return ids, scores


class ServedRanker:
    """A Recommender with the inputs of the graph: the clicks, and the moment of the last one."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._timed = recommender.bundle.model.trends is not None

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Evaluated.rank`."""
        if not self._timed:
            return self._recommender.rank(sessions, k)
        ids, scores = padded_lists(len(sessions), k)
        item_ids = self._recommender.ids
        for row in range(len(sessions)):
            session = sessions.slice(row, row + 1)
            answer = self._recommender.recommend(item_ids.external(session.items), k, at=moment_of(session))
            ids[row, : len(answer)] = item_ids.lookup(answer.items)
            scores[row, : len(answer)] = answer.scores
        return ids, scores


class EncoderRanker:
    """`encoder.onnx` with an exact search; a session without clicks gets the Recommender's answer."""

    def __init__(self, bundle: Bundle, run: Run, served: ServedRanker) -> None:
        self._run, self._served, self._scale = run, served, bundle.config.model.scale
        self._index = make_index("native", bundle.item_vectors, bundle.scan)
        self._n = bundle.n_items

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Evaluated.rank`."""
        ids, scores = padded_lists(len(sessions), k)
        for row in range(len(sessions)):
            session = sessions.slice(row, row + 1)
            if len(session.items) == 0:
                ids[row], scores[row] = (part[0] for part in self._served.rank(session, k))
                continue
            (query,) = self._run(dict(zip(("ids", "lengths"), padded(session), strict=True)))
            width = min(k, self._n)
            results = self._index.search(query, width, scale=self._scale)
            ids[row, :width], scores[row, :width] = results[0][0], results[1][0]
        return ids, scores


def moment_of(session: Sessions) -> int:
    """Return the Unix milliseconds of the last click; 0 without times, which means the model's newest click."""
    times = session.times
    return 0 if times is None or not len(times) else max(0, int(times[-1]))
