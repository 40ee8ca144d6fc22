"""The baseline `eager-faiss`, careful code in PyTorch and FAISS, and the model in float64 that checks every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.batch import Batch

NAME = "eager-faiss"
_BLOCK = 1 << 16


class EagerFaiss:
    """Serves a model: one padded forward for the whole batch, then an exact inner-product search.

    The catalog is normalized once; external ids go through a dict and an array.
    """

    def __init__(self, config: Config, weights: Mapping[str, np.ndarray], external_ids: Sequence[Any]) -> None:
        self._config = config
        self._model = load_model(config, weights).eval()
        catalog = functional.normalize(self._model.item_embedding.detach(), dim=1).numpy()
        self._index = faiss.IndexFlatIP(config.model.embedding_dim)
        self._index.add(catalog)
        self._external = np.array(external_ids, dtype=None if isinstance(external_ids[0], int) else object)
        self._internal = {external: internal for internal, external in enumerate(external_ids)}

    def encode(self, sessions: Sessions) -> np.ndarray:
        """Return unit queries of B sessions: float32[B, d]."""
        return encode(self._model, sessions).numpy()

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the k best of the catalog for unit queries float32[B, d]: ids int64[B, k], logits float32[B, k].

        FAISS uses matrix products from 20 queries on, if the work is large enough. For a batch this code always
        requests them, which is several times faster.
        """
        default = faiss.cvar.distance_compute_blas_threshold
        if len(queries) > 1:
            faiss.cvar.distance_compute_blas_threshold = 1
        cosines, ids = self._index.search(queries, k)
        faiss.cvar.distance_compute_blas_threshold = default
        return ids, cosines * self._config.model.scale

    def recommend(self, sessions: Sequence[Sequence[Any]], k: int) -> list[tuple[list[Any], np.ndarray]]:
        """Return (external ids, logits) of the k best for each session of known external ids."""
        packed = Sessions.from_lists([[self._internal[item] for item in session] for session in sessions])
        ids, logits = self.search(self.encode(packed), k)
        return list(zip(self._external[ids].tolist(), logits, strict=True))


def load_model(config: Config, weights: Mapping[str, np.ndarray]) -> MTAW:
    """Return a new MTAW with a copy of these weights."""
    model = MTAW(config, len(weights["item_embedding"]))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    return model


@torch.inference_mode()
def encode(model: MTAW, sessions: Sessions) -> Tensor:
    """Return the unit query after the last click of each of B sessions: [B, d], in the model's dtype."""
    offsets = torch.from_numpy(sessions.offsets)
    queries = model(torch.from_numpy(sessions.items.astype(np.int64)), offsets)
    return functional.normalize(queries[offsets[1:] - 1], dim=1)


def true_queries(config: Config, weights: Mapping[str, np.ndarray], sessions: Sessions) -> np.ndarray:
    """Return unit queries of B sessions: float64[B, d]."""
    clicked, items = np.unique(sessions.items, return_inverse=True)  # a model of the clicked items alone
    model = load_model(config, {**weights, "item_embedding": weights["item_embedding"][clicked]}).double().eval()
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
