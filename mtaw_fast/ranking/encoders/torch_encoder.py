"""The PyTorch model as an encoder: the reference for the other encoders."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.ranking.encoders.numpy_encoder import check_sessions, unit


class TorchEncoder:
    """`Encoder` by the training model itself, on the CPU in float32, one session a forward pass.

    weights: the bundle's arrays; the model has a copy.
    """

    name = "torch"

    def __init__(self, config: Config, weights: Mapping[str, np.ndarray]) -> None:
        self._max_len = config.model.max_session_length
        self._n_items, self._d = weights["item_embedding"].shape
        self._n_base = self._n_items
        self._model = MTAW(config, self._n_items)
        self._model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
        self._model.eval()

    def extended(self, added: np.ndarray) -> TorchEncoder:
        """See `Encoder.extended`; the model is copied."""
        weights = {name: tensor.numpy() for name, tensor in self._model.state_dict().items()}
        items = weights["item_embedding"][: self._n_base]
        encoder = TorchEncoder(self._model.config, {**weights, "item_embedding": np.concatenate([items, added])})
        encoder._n_base = self._n_base
        return encoder

    def encode(self, sessions: Sessions) -> np.ndarray:
        """See `Encoder.encode`."""
        check_sessions(sessions, self._n_items)
        vectors = np.empty((len(sessions), self._d), dtype=np.float32)
        with torch.inference_mode():
            for b, clicks in enumerate(sessions):
                items = torch.from_numpy(clicks[-self._max_len :].astype(np.int64))
                offsets = torch.tensor([0, len(items)])
                vectors[b] = unit(self._model(items, offsets)[-1].float().numpy())
        return vectors
