"""Session encoders: clicks in, unit query vectors out. Every encoder takes one session at a time."""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.encoders.native_encoder import NativeEncoder
from mtaw_fast.encoders.numpy_encoder import NumpyEncoder
from mtaw_fast.errors import UsageError, require
from mtaw_fast.sessions import Sessions

__all__ = ["ENCODERS", "Encoder", "NativeEncoder", "NumpyEncoder", "make_encoder"]

ENCODERS = ("native", "numpy", "eager")
_LOG = logging.getLogger("mtaw_fast")


class Encoder(Protocol):
    """Axes: B sessions, d dimensions. Thread-safe."""

    name: str

    def encode(self, sessions: Sessions) -> np.ndarray:
        """float32[B, d]: o_m / |o_m| of each session's last click m (zero where o_m is zero).

        A vector depends on its own session alone, to the bit, never on the rest of the batch. Of
        sessions longer than config.max_len the last max_len clicks count. Raises DataError on an item
        id outside the catalog, UsageError on an empty session.
        """
        ...

    def enlarged(self, added: np.ndarray) -> Encoder:
        """An encoder that knows M more items: ids N..N+M-1 have the embeddings `added` float32[M, d].

        N is the bundle's catalog, also where this encoder was enlarged before: `added` are then all of them.
        """
        ...


def make_encoder(name: str, bundle: Bundle) -> Encoder:
    """The encoder `name` with the bundle's weights; 'auto' is 'native'.

    Raises UsageError on an unknown name, MissingPackageError where the encoder needs a package.
    """
    if name == "auto":
        chosen = "native"
        _LOG.info("encoder: %s (auto)", chosen)
    elif name in ENCODERS:
        chosen = name
        _LOG.info("encoder: %s (asked for)", chosen)
    else:
        raise UsageError(f"there is no encoder {name!r}; choose one of auto, {', '.join(ENCODERS)}")
    if chosen == "native":
        return NativeEncoder(bundle.config, bundle.weights)
    if chosen == "numpy":
        return NumpyEncoder(bundle.config, bundle.weights)
    require("torch", "train")
    from mtaw_fast.encoders.eager import EagerEncoder

    return EagerEncoder(bundle.config, bundle.weights)
