"""The default encoder: MTAW's formulas in C++, a few microseconds a session."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.encoder import SessionEncoder, SessionState
from mtaw_fast.model.parameters import recent_of
from mtaw_fast.ranking.encoders.numpy_encoder import check_sessions


class NativeEncoder:
    """`Encoder` by `mtaw_fast.kernels.native.encoder`, on the calling thread, without the GIL.

    weights: the bundle's arrays, and added_embedding float32[M, d] if M items were added. The item embeddings are kept
    without a copy (processes share a memory map), the small arrays are copied.
    """

    name = "native"

    def __init__(self, config: Config, weights: Mapping[str, np.ndarray]) -> None:
        self._n_base = len(weights["item_embedding"])
        self._n_items = self._n_base + len(weights.get("added_embedding", ()))
        recent = recent_of(weights)
        self.encoder = SessionEncoder(
            weights, config.model.max_session_length, recent=recent.gain, recent_decay=recent.decay
        )

    def extended(self, added: np.ndarray) -> NativeEncoder:
        """See `Encoder.extended`; the packed weights are shared."""
        encoder = copy.copy(self)
        encoder._n_items = self._n_base + len(added)
        encoder.encoder = self.encoder.extended(added)
        return encoder

    def encode(self, sessions: Sessions) -> np.ndarray:
        """See `Encoder.encode`."""
        try:
            return self.encoder.encode(np.ascontiguousarray(sessions.items), np.ascontiguousarray(sessions.offsets))
        except (IndexError, ValueError):
            # The native checks cost nothing; these passes cost more than a session and only find the error message.
            check_sessions(sessions, self._n_items)
            raise

    def session(self) -> SessionState:
        """Return a session to append clicks (internal item ids) to; each append returns the new query."""
        return self.encoder.session()
