"""MTAW's formulas in float64, for tests of the native encoder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.kernels.native.encoder import SessionEncoder
from mtaw_fast.model.parameters import RECENT_CLICKS, parameter_shapes

N = 83
TOLERANCE = 2e-6  # float32 against float64, on the coordinates of a unit vector
Weights = dict[str, np.ndarray]
Recent = dict[str, float]
NO_RECENT: Recent = {"recent": 0.0, "recent_decay": 0.0}


def weights_of(d: int, positions: int, seed: int = 0, n_items: int = N) -> Weights:
    """Weights of a trained model's size: rows of about unit length, layers that keep the scale."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(Config.of(embedding_dim=d, max_positions=positions), n_items)
    weights = {name: rng.normal(0, 1 / np.sqrt(d), shape).astype(np.float32) for name, shape in shapes.items()}
    weights["item_embedding"] *= 3
    weights["norm_weight"] += 1
    return weights


def reference(
    clicks: np.ndarray, weights: Mapping[str, np.ndarray], max_len: int, dtype: type, recent: Recent = NO_RECENT
) -> np.ndarray:
    """The query of one session at length 1, computed in `dtype`."""
    w = {name: array.astype(dtype) for name, array in weights.items()}
    clicks = clicks[-max_len:]
    m, d = len(clicks), w["norm_bias"].size

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ w[f"{name}_weight"].T + w[f"{name}_bias"]

    def softmax(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    shrink = dtype(1 / np.sqrt(d))
    positions = w["position_embedding"]
    x = w["item_embedding"][clicks] + positions[np.minimum(np.arange(m), len(positions) - 1)]
    past = np.tril(np.ones((m, m), dtype=bool))
    tracked = softmax(np.where(past, np.maximum(linear("itl_query", x), 0) @ x.T * shrink, -np.inf)) @ x
    v = tracked + linear("ffn_out", np.maximum(linear("ffn_in", tracked), 0))
    v = v - v.mean(axis=1, keepdims=True)
    interests = v / np.sqrt((v * v).mean(axis=1, keepdims=True) + dtype(1e-5)) * w["norm_weight"] + w["norm_bias"]
    o = softmax(np.maximum(linear("iel_query", interests[-1]), 0) @ interests.T * shrink) @ interests
    late = w["item_embedding"][clicks[::-1][:RECENT_CLICKS]]
    shares = recent["recent_decay"] ** np.arange(len(late))
    directions = late / np.linalg.norm(late, axis=1, keepdims=True)
    o = o + dtype(recent["recent"] * np.sqrt(d)) * (shares / shares.sum()).astype(dtype) @ directions
    return o / np.linalg.norm(o)


def encode(encoder: SessionEncoder, clicks: np.ndarray) -> np.ndarray:
    """The query float32[d] of one session."""
    return encoder.encode(clicks, np.array([0, len(clicks)]))[0]


def check(
    encoder: SessionEncoder, sessions: list[np.ndarray], weights: Weights, max_len: int, recent: Recent = NO_RECENT
) -> None:
    """The largest error is at most twice that of the same formulas in float32, and at common widths in the tolerance.

    LayerNorm over two or three numbers that nearly cancel is ill-conditioned in any float32 encoder.
    """
    error = plain = 0.0
    for clicks in sessions:
        truth = reference(clicks, weights, max_len, np.float64, recent)
        error = max(error, np.abs(encode(encoder, clicks) - truth).max())
        plain = max(plain, np.abs(reference(clicks, weights, max_len, np.float32, recent) - truth).max())
    assert error <= 2 * plain + 1.2e-7
    assert error <= TOLERANCE or weights["norm_bias"].size < 16


def draw(rng: np.random.Generator, m: int, n_items: int = N) -> np.ndarray:
    return rng.integers(0, n_items, m).astype(np.int32)
