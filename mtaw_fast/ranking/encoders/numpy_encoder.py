"""The numpy encoder: MTAW's formulas for the last click of a session. Other encoders share its checks."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.model.parameters import RECENT_CLICKS, SHORTEST, recent_of

_LAYER_NORM_EPS = np.float32(1e-5)


class NumpyEncoder:
    """`Encoder` in float32 numpy. Computes the enhancing layer (IEL) for the last click only.

    weights: the bundle's arrays, kept without a copy (processes share memory maps).
    """

    name = "numpy"

    def __init__(self, config: Config, weights: Mapping[str, np.ndarray]) -> None:
        self._max_len = config.model.max_session_length
        self._score_scale = np.float32(1 / math.sqrt(config.model.embedding_dim))
        self._inverse_d = np.float32(1 / config.model.embedding_dim)
        self._item = weights["item_embedding"]
        self._added = self._item[:0]
        rows = np.minimum(np.arange(config.model.max_session_length), config.model.max_positions - 1)
        self._position = weights["position_embedding"][rows]
        self._itl = weights["itl_query_weight"].T, weights["itl_query_bias"]
        self._ffn_in = weights["ffn_in_weight"].T, weights["ffn_in_bias"]
        self._ffn_out = weights["ffn_out_weight"].T, weights["ffn_out_bias"]
        self._norm = weights["norm_weight"], weights["norm_bias"]
        self._iel = weights["iel_query_weight"].T, weights["iel_query_bias"]
        self._recent = recent_of(weights)
        self._causal_mask = np.triu(
            np.full((config.model.max_session_length, config.model.max_session_length), -np.inf, dtype=np.float32), 1
        )

    def extended(self, added: np.ndarray) -> NumpyEncoder:
        """See `Encoder.extended`."""
        encoder = copy.copy(self)
        encoder._added = added
        return encoder

    def encode(self, sessions: Sessions) -> np.ndarray:
        """See `Encoder.encode`."""
        check_sessions(sessions, len(self._item) + len(self._added))
        vectors = np.empty((len(sessions), self._item.shape[1]), dtype=np.float32)
        # One session at a time: a shared matrix product would round by the batch's shape.
        for b, clicks in enumerate(sessions):
            clicks = clicks[-self._max_len :]
            query = self._last_interest(clicks)
            vectors[b] = unit(query if self._recent.gain == 0 else query + self._recent_clicks(clicks[-RECENT_CLICKS:]))
        return vectors

    def _last_interest(self, clicks: np.ndarray) -> np.ndarray:
        """Return o_m float32[d] of clicks int32[m]."""
        m = len(clicks)
        x = embeddings_of(clicks, self._item, self._added)
        x += self._position[:m]
        scores = _relu_linear(x, self._itl) @ x.T  # [m, m]
        scores *= self._score_scale
        scores += self._causal_mask[:m, :m]
        tracked = _softmax(scores) @ x
        interests = _relu_linear(tracked, self._ffn_in) @ self._ffn_out[0]
        interests += self._ffn_out[1]
        interests += tracked
        interests = self._layer_norm(interests)  # l_1..l_m
        scores = interests @ _relu_linear(interests[-1], self._iel)  # [m]
        scores *= self._score_scale
        return _softmax(scores) @ interests

    def _recent_clicks(self, clicks: np.ndarray) -> np.ndarray:
        """Return gain * r_m of the last clicks int32[n], float32[d]; see `model.mtaw.recent_clicks`."""
        weights = self._recent.decay ** np.arange(len(clicks) - 1, -1, -1, dtype=np.float64)
        rows = embeddings_of(clicks, self._item, self._added)
        lengths = np.sqrt(np.add.reduce(rows * rows, axis=1, dtype=np.float64))
        weights *= self._recent.gain / self._score_scale / weights.sum() / np.maximum(lengths, SHORTEST)
        return weights.astype(np.float32) @ rows

    def _layer_norm(self, values: np.ndarray) -> np.ndarray:
        """Return the LayerNorm of the rows of float32[m, d], with the biased variance, in place."""
        values -= np.add.reduce(values, axis=1, keepdims=True) * self._inverse_d
        variance = np.add.reduce(values * values, axis=1, keepdims=True) * self._inverse_d
        values /= np.sqrt(variance + _LAYER_NORM_EPS)
        values *= self._norm[0]
        values += self._norm[1]
        return values


def embeddings_of(clicks: np.ndarray, item: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Return the embeddings of clicks int32[m], a copy: float32[m, d]. added: those of the items behind `item`."""
    if len(added) == 0:
        return item.take(clicks, axis=0)
    is_added = clicks >= len(item)
    rows = item.take(np.where(is_added, 0, clicks), axis=0)
    rows[is_added] = added[clicks[is_added] - len(item)]
    return rows


def _relu_linear(values: np.ndarray, layer: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    out = values @ layer[0]
    out += layer[1]
    return np.maximum(out, 0, out=out)


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, in place."""
    scores -= np.maximum.reduce(scores, axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.add.reduce(scores, axis=-1, keepdims=True)
    return scores


def check_sessions(sessions: Sessions, n_items: int) -> None:
    """Raise DataError on an item outside 0..n_items-1, UsageError on a session without clicks."""
    sessions.check_ids(n_items, "sessions to encode")
    empty = np.flatnonzero(sessions.offsets[1:] == sessions.offsets[:-1])
    if len(empty):
        raise UsageError(f"session {empty[0]} to encode has no clicks; leave it out")


def unit(vector: np.ndarray) -> np.ndarray:
    """Return float32[d] divided by its length (float64 arithmetic); a zero vector stays zero."""
    wide = vector.astype(np.float64)
    length = math.sqrt(float(wide @ wide))
    if length > 0:
        wide /= length
    return wide.astype(np.float32)
