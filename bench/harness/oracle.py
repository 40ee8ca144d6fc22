"""The model in float64, which checks every answer of the throughput bench."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.harness.eager_faiss import encode, load_model
from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch

_BLOCK = 1 << 16


def true_queries(config: Config, weights: Mapping[str, np.ndarray], sessions: Sessions) -> np.ndarray:
    """Return unit queries of B sessions: float64[B, d]."""
    used, items = np.unique(sessions.items, return_inverse=True)  # a model of the clicked items alone
    model = load_model(config, {**weights, "item_embedding": weights["item_embedding"][used]}).double().eval()
    return encode(model, Sessions(items.astype(np.int32), sessions.offsets)).numpy()


def true_logits(config: Config, weights: Mapping[str, np.ndarray], queries: np.ndarray) -> np.ndarray:
    """Return scale * cos of queries [B, d] with the whole catalog: float64[B, N]."""
    embedding = weights["item_embedding"]
    logits = np.empty((len(queries), len(embedding)))
    for begin in range(0, len(embedding), _BLOCK):
        rows = embedding[begin : begin + _BLOCK].astype(np.float64)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        logits[:, begin : begin + _BLOCK] = config.model.scale * (queries.astype(np.float64) @ rows.T)
    return logits


def true_step(config: Config, weights: Mapping[str, np.ndarray], batch: Batch) -> tuple[float, list[np.ndarray]]:
    """Return a batch's mean loss and unclipped gradients by the reference loss; dropout as in config."""
    model = load_model(config, weights).double()
    loss = aw_loss(
        model(batch.clicks, batch.offsets)[batch.rows],
        model.item_embedding,
        batch.targets,
        scale=config.model.scale,
        gamma=config.loss.gamma,
        backend="reference",
    )
    loss.backward()
    return loss.item(), gradients(model)


def gradients(model: MTAW) -> list[np.ndarray]:
    """Return the gradients that a step left in the weights, in the order of the parameters."""
    return [parameter.grad.numpy() for parameter in model.parameters() if parameter.grad is not None]
