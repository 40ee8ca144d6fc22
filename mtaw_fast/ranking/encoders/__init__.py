"""Session encoders: they turn clicks into query vectors of length 1."""

from __future__ import annotations

import logging
import re
from typing import Literal, Protocol, get_args

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError, require
from mtaw_fast.ranking.encoders.native_encoder import NativeEncoder
from mtaw_fast.ranking.encoders.numpy_encoder import NumpyEncoder

__all__ = ["ENCODERS", "GRAPH_ENCODERS", "Encoder", "EncoderName", "NativeEncoder", "NumpyEncoder", "make_encoder"]

ENCODERS = ("native", "numpy", "torch")  # of every bundle
GRAPH_ENCODERS = ("onnx", "onnx-cuda")  # of bundles with exported graphs
EncoderName = Literal["auto", "native", "numpy", "torch", "onnx", "onnx-cuda"]  # "onnx-cuda:1": another device
_NAMES = get_args(EncoderName)
_ON_DEVICE = re.compile(r"onnx-cuda:[0-9]{1,3}")
_LOG = logging.getLogger("mtaw_fast")


class Encoder(Protocol):
    """Axes: B sessions, d dimensions. Thread-safe."""

    name: str

    def encode(self, sessions: Sessions) -> np.ndarray:
        """Return float32[B, d]: the query after each session's last click, at length 1 (a zero query stays zero).

        A vector depends on its own session alone, to the bit; for 'onnx-cuda', which pads a batch into one run, to
        2e-6. Only the last config.model.max_session_length clicks count. Raises DataError on an item id outside the
        catalog, UsageError on an empty session.
        """
        ...

    def extended(self, added: np.ndarray) -> Encoder:
        """Return an encoder that knows M more items: ids N..N+M-1 have the embeddings `added` float32[M, d].

        N is the size of the bundle's catalog. If this encoder was extended before, `added` replaces the earlier rows.
        """
        ...


def make_encoder(name: str, bundle: Bundle) -> Encoder:
    """Make the encoder `name` with the bundle's weights; 'auto' is 'native', 'onnx-cuda:1' is on the second GPU.

    Raises UsageError on an unknown name, if the bundle has no graph for 'onnx', or if ONNX Runtime has no GPU for
    'onnx-cuda'; BundleError if the graph does not load; MissingPackageError if a package is not installed.
    """
    if name not in _NAMES and not _ON_DEVICE.fullmatch(name):
        raise UsageError(f"there is no encoder {name!r}; choose one of {', '.join(_NAMES)}")
    chosen = "native" if name == "auto" else name
    _LOG.info("encoder: %s (%s)", chosen, "auto" if name == "auto" else "requested")
    if chosen == "native":
        return NativeEncoder(bundle.config, bundle.weights)
    if chosen == "numpy":
        return NumpyEncoder(bundle.config, bundle.weights)
    if chosen.startswith(GRAPH_ENCODERS):
        require("onnxruntime", "cpu")
        from mtaw_fast.ranking.encoders.onnx_encoder import OnnxEncoder

        return OnnxEncoder.of(bundle, chosen)
    require("torch", "train")
    from mtaw_fast.ranking.encoders.torch_encoder import TorchEncoder

    return TorchEncoder(bundle.config, bundle.weights)
