"""The exported graph `encoder` in ONNX Runtime, on the CPU or on a GPU by CUDA."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, model_hash
from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.ranking.encoders.common import checked_sessions

_MEND = "export it anew with 'mtaw-fast export BUNDLE --onnx'"
_CUDA = "CUDAExecutionProvider"
_PROVIDERS: Mapping[str, list[Any]] = {
    "onnx": ["CPUExecutionProvider"],
    # TensorFloat-32 keeps 10 bits of a product's factors; a float32 result is promised.
    "onnx-cuda": [(_CUDA, {"use_tf32": "0"}), "CPUExecutionProvider"],
}


def session_options() -> onnxruntime.SessionOptions:
    """What the measurements in docs/export.md chose for one session a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False  # as fast, and the memory of a long session goes back
    options.enable_mem_pattern = True  # one allocation a run; a pattern is kept for each of max_len lengths
    options.log_severity_level = 3  # below it ORT warns that `item_embedding` can be overridden, which is its purpose
    return options


class OnnxEncoder:
    """`Encoder` by the graph in float32, one session a run, unpadded: no vector knows of another session.

    Clicks of items added later are looked up here, and their vectors are fed in the place of the graph's own table.
    """

    def __init__(self, name: str, session: onnxruntime.InferenceSession, config: Config, item: np.ndarray) -> None:
        self.name = name
        self._session, self._config, self._item = session, config, item
        self._max_len = config.max_len
        self._added = item[:0]
        self._bindings = threading.local()  # an IOBinding belongs to one run at a time

    @classmethod
    def of(cls, bundle: Bundle, name: str) -> OnnxEncoder:
        """The graph in a bundle, on the CPU ('onnx') or on a GPU ('onnx-cuda').

        Raises UsageError where the bundle has no such graph or ONNX Runtime no CUDA, BundleError where the graph does
        not load or was exported from another model.
        """
        path = bundle.file(GRAPH_PARTS["encoder", "float32"])
        if path is None:
            what = "graph in float32" if "onnx" in bundle.manifest else "graph"
            raise UsageError(
                f"encoder {name!r}: the bundle has no {what}; add it with 'mtaw-fast export BUNDLE --onnx'"
            )
        session = _open(path, name)
        about = session.get_modelmeta().custom_metadata_map
        if about.get("mtaw_fast.model") != model_hash(bundle.manifest):
            raise BundleError(f"{path} was exported from another model than the bundle's; {_MEND}")
        return cls(name, session, bundle.config, bundle.weights["item_embedding"])

    def enlarged(self, added: np.ndarray) -> OnnxEncoder:
        """See `Encoder.enlarged`."""
        other = OnnxEncoder(self.name, self._session, self._config, self._item)
        other._added = added
        return other

    def encode(self, sessions: Sessions) -> np.ndarray:
        """See `Encoder.encode`."""
        n_items = len(self._item) + len(self._added)
        # Read as unsigned, a negative id is a large one: one pass, where the check that finds the words takes four.
        if np.maximum.reduce(sessions.items.view(np.uint32), initial=0) >= n_items:
            checked_sessions(sessions, n_items)
        binding, length, query = self._binding()
        vectors = np.empty((len(sessions), self._item.shape[1]), dtype=np.float32)
        for b, clicks in enumerate(sessions):
            ids = clicks[-self._max_len :]
            if len(ids) == 0:
                checked_sessions(sessions, n_items)
            if len(self._added):
                binding.bind_ortvalue_input("item_embedding", onnxruntime.OrtValue.ortvalue_from_numpy(self._rows(ids)))
                ids = np.arange(len(ids), dtype=np.int32)
            length[0] = len(ids)
            binding.bind_cpu_input("ids", ids[None])
            binding.bind_cpu_input("lengths", length)
            self._session.run_with_iobinding(binding)
            vectors[b] = query[0]
        return vectors

    def _binding(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """This thread's IOBinding, the array int32[1] of its input `lengths`, and float32[1, d] of its output."""
        if not hasattr(self._bindings, "mine"):
            query = np.empty((1, self._item.shape[1]), dtype=np.float32)
            binding = self._session.io_binding()
            binding.bind_ortvalue_output("query", onnxruntime.OrtValue.ortvalue_from_numpy(query))
            self._bindings.mine = binding, np.empty(1, dtype=np.int32), query
        return self._bindings.mine

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """The embeddings of ids int32[m], added ones among them: float32[m, d]."""
        late = ids >= len(self._item)
        rows = self._item.take(np.where(late, 0, ids), axis=0)
        rows[late] = self._added[ids[late] - len(self._item)]
        return rows


def _open(path: Path, name: str) -> onnxruntime.InferenceSession:
    """The graph in a session; see `OnnxEncoder.of`."""
    if name == "onnx-cuda" and _CUDA not in onnxruntime.get_available_providers():
        raise UsageError(
            "encoder 'onnx-cuda': this ONNX Runtime has no CUDA; install 'mtaw-fast[gpu]' instead of 'mtaw-fast[cpu]'"
        )
    try:
        session = onnxruntime.InferenceSession(path, session_options(), providers=_PROVIDERS[name])
    except Exception as error:  # ONNX Runtime's own have no common base
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path} ({reason}); {_MEND}") from None
    if name == "onnx-cuda" and session.get_providers()[0] != _CUDA:  # it goes on without, and only logs it
        raise UsageError(
            "encoder 'onnx-cuda': ONNX Runtime found no usable GPU; see that its driver and CUDA are there"
        )
    return session
