"""The exported graph `encoder` in ONNX Runtime, on the CPU or on a GPU by CUDA; errors are one line."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, model_hash
from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, MtawError, UsageError
from mtaw_fast.ranking.encoders.numpy_encoder import check_sessions, embeddings_of

_REMEDY = "export it again with 'mtaw-fast export BUNDLE --onnx'"
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
# Numbers of the largest value of one run on a GPU, 32 MiB; about ten such values are alive at once.
_NUMBERS = 1 << 23


class OnnxEncoder:
    """`Encoder` by the graph in float32.

    On the CPU every session has its own run, so that its vector does not depend on other sessions. In a run of several,
    even of equal length, ONNX Runtime sums some rows in another order than alone (seen at d = 32 and 64 sessions).

    On a GPU a batch is one padded run, or several if its largest value would exceed 32 MiB. Padding has no weight in
    any sum, but the order of a sum may depend on the run's shape: vectors agree with those of single runs to 2e-6, not
    to the bit.

    With added items the embeddings of a session's clicks are looked up here and replace the graph's own table.

    name: 'onnx', or 'onnx-cuda' and 'onnx-cuda:NUMBER' on a GPU. session: ONNX Runtime's session of
    the graph. item: float32[N, d], the model's item embeddings.
    """

    def __init__(self, name: str, session: onnxruntime.InferenceSession, config: Config, item: np.ndarray) -> None:
        self.name = name
        self._session, self._config, self._item = session, config, item
        self._max_len = config.model.max_session_length
        self._added = item[:0]
        self._bindings = threading.local()  # an IOBinding belongs to one run at a time
        self._padded = name.startswith("onnx-cuda")

    @classmethod
    def of(cls, bundle: Bundle, name: str) -> OnnxEncoder:
        """Open the graph of a bundle, on the CPU ('onnx') or on a GPU ('onnx-cuda', 'onnx-cuda:1').

        Raises UsageError if the bundle has no such graph or ONNX Runtime cannot use the GPU, BundleError if the graph
        does not load or was exported from another model.
        """
        path = bundle.file(GRAPH_PARTS["encoder", "float32"])
        if path is None:
            missing = "graph in float32" if "onnx" in bundle.manifest else "graph"
            raise UsageError(
                f"encoder {name!r}: the bundle has no {missing}; add it with 'mtaw-fast export BUNDLE --onnx'"
            )
        device = int(name.partition(":")[2] or 0)
        session = _open_on_cpu(path) if name == "onnx" else _open_on_cuda(path, name, device)
        metadata = session.get_modelmeta().custom_metadata_map
        if metadata.get("mtaw_fast.model") != model_hash(bundle.manifest):
            raise BundleError(f"{path} was exported from another model than the bundle's; {_REMEDY}")
        return cls(name, session, bundle.config, bundle.weights["item_embedding"])

    def extended(self, added: np.ndarray) -> OnnxEncoder:
        """See `Encoder.extended`."""
        encoder = copy.copy(self)
        encoder._added, encoder._bindings = added, threading.local()
        return encoder

    def encode(self, sessions: Sessions) -> np.ndarray:
        """Encode as `Encoder.encode` does. Raises MtawError if the GPU fails."""
        n_items = len(self._item) + len(self._added)
        # As unsigned, a negative id is a large one: one pass. The check that finds the error message takes four.
        if np.maximum.reduce(sessions.items.view(np.uint32), initial=0) >= n_items:
            check_sessions(sessions, n_items)
        lengths = np.diff(sessions.offsets)
        if len(lengths) and lengths.min() == 0:
            check_sessions(sessions, n_items)
        lengths = np.minimum(lengths, self._max_len)
        if self._padded:
            return self._encode(sessions, lengths, padded_runs(lengths, self._config.model.embedding_dim))
        return self._one_by_one(sessions)

    def _encode(self, sessions: Sessions, lengths: np.ndarray, runs: Iterator[np.ndarray]) -> np.ndarray:
        """Return the vectors, one run for each group of sessions."""
        vectors = np.empty((len(sessions), self._item.shape[1]), dtype=np.float32)
        for group in runs:
            width = int(lengths[group].max())
            back = np.arange(width) - lengths[group][:, None]  # < 0 on a session's clicks
            ids = np.full((len(group), width), -1, dtype=np.int32)
            ids[back < 0] = sessions.items[(sessions.offsets[group + 1][:, None] + back)[back < 0]]
            vectors[group] = self._run(ids, lengths[group].astype(np.int32))
        return vectors

    def _run(self, ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Return the vectors float32[b, d] of clicks int32[b, L], padded on the right with -1."""
        feeds = {"ids": ids, "lengths": lengths}
        if len(self._added):
            real = ids >= 0
            feeds["item_embedding"] = embeddings_of(ids[real], self._item, self._added)
            feeds["ids"] = np.full_like(ids, -1)
            feeds["ids"][real] = np.arange(np.count_nonzero(real), dtype=np.int32)
        try:
            return self._session.run(["query"], feeds)[0]
        except Exception as error:  # ONNX Runtime's own have no common base
            if not self._padded:
                raise
            raise MtawError(
                f"encoder '{self.name}': the GPU failed ({_line(error)}); check what else runs on it, then load again"
            ) from None

    def _one_by_one(self, sessions: Sessions) -> np.ndarray:
        """Run the graph for each session, into memory that is bound once."""
        binding, length, query = self._binding()
        vectors = np.empty((len(sessions), self._item.shape[1]), dtype=np.float32)
        for b, clicks in enumerate(sessions):
            ids = clicks[-self._max_len :]
            if len(self._added):
                rows = embeddings_of(ids, self._item, self._added)
                binding.bind_ortvalue_input("item_embedding", onnxruntime.OrtValue.ortvalue_from_numpy(rows))
                ids = np.arange(len(ids), dtype=np.int32)
            length[0] = len(ids)
            binding.bind_cpu_input("ids", ids[None])
            binding.bind_cpu_input("lengths", length)
            self._session.run_with_iobinding(binding)
            vectors[b] = query[0]
        return vectors

    def _binding(self) -> tuple[Any, np.ndarray, np.ndarray]:
        """Return this thread's IOBinding, the int32[1] of its input `lengths`, and the float32[1, d] of its output."""
        if not hasattr(self._bindings, "mine"):
            query = np.empty((1, self._item.shape[1]), dtype=np.float32)
            binding = self._session.io_binding()
            binding.bind_ortvalue_output("query", onnxruntime.OrtValue.ortvalue_from_numpy(query))
            self._bindings.mine = binding, np.empty(1, dtype=np.int32), query
        return self._bindings.mine


def padded_runs(lengths: np.ndarray, d: int) -> Iterator[np.ndarray]:
    """Yield groups of sessions for one padded run each, as row numbers int64[b]: one group, or several by length.

    lengths: int64[B], each at least 1. A group's largest value is [b, L, max(L, d)].
    """
    begin, order = 0, np.argsort(lengths, kind="stable")
    for end in range(1, len(order) + 1):
        longest = int(lengths[order[end]]) if end < len(order) else 0
        if end == len(order) or (end + 1 - begin) * longest * max(longest, d) > _NUMBERS:
            yield order[begin:end]
            begin = end


def _session_options() -> onnxruntime.SessionOptions:
    """Return the options that the measurements in docs/export.md chose for one session a call."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_cpu_mem_arena = False  # as fast, and the memory of a long session is freed
    options.enable_mem_pattern = True  # one allocation a run; a pattern is kept for each shape that was run
    options.log_severity_level = 3  # below it ORT warns that `item_embedding` can be overridden, which is its purpose
    return options


def _open_on_cpu(path: Path) -> onnxruntime.InferenceSession:
    """Open the graph on the CPU. Raises BundleError if it does not load."""
    try:
        return onnxruntime.InferenceSession(path, _session_options(), providers=[_CPU])
    except Exception as error:  # ONNX Runtime's own have no common base
        raise _damaged(path, error) from None


def _open_on_cuda(path: Path, name: str, device: int) -> onnxruntime.InferenceSession:
    """Open the graph on a GPU, for the encoder `name`.

    Raises UsageError if ONNX Runtime cannot use that GPU (by itself it would use the CPU and log it), BundleError if
    the graph does not load.
    """
    if _CUDA not in onnxruntime.get_available_providers():
        raise UsageError(
            f"encoder '{name}': this ONNX Runtime has no CUDA; install 'mtaw-fast[gpu]' instead of 'mtaw-fast[cpu]'"
        )
    missing = _missing_library()
    if missing is not None:
        remedy = "install 'mtaw-fast[gpu]', which brings CUDA's libraries"
        if missing.startswith("libcuda.so"):
            remedy = "install NVIDIA's driver if there is a GPU, or use encoder 'native'"
        raise UsageError(f"encoder '{name}': ONNX Runtime's CUDA does not load ({missing}); {remedy}")
    options = _session_options()
    options.enable_mem_pattern = False  # every batch is a shape of its own
    # TensorFloat-32 keeps 10 bits of a product's factors; a float32 result is promised. The arena grows only by what is
    # requested, since FAISS and other processes may share the card.
    cuda_options = {"device_id": str(device), "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=[(_CUDA, cuda_options), _CPU], enable_fallback=0
        )
    except Exception as error:  # ONNX Runtime's own have no common base
        if "CUDA" not in str(error):
            raise _damaged(path, error) from None
        raise UsageError(f"encoder '{name}': ONNX Runtime cannot use GPU {device} ({_line(error)})") from None
    if session.get_providers()[0] != _CUDA:
        raise UsageError(f"encoder '{name}': ONNX Runtime found no usable GPU; check its driver and CUDA")
    return session


def _damaged(path: Path, error: Exception) -> BundleError:
    return BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path} ({_line(error)}); {_REMEDY}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _missing_library() -> str | None:
    """Return the loader's message about a library that ONNX Runtime's CUDA provider needs and does not find, or None.

    pip installs CUDA's libraries where the loader does not look; `preload_dlls` loads them from there and prints what
    it does not find. The provider's own failure is only logged on stderr, so the provider is loaded here to get it.
    """
    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if not provider.exists():  # on another system, or built in
        return None
    try:
        ctypes.CDLL(str(provider))
    except OSError as error:
        # Loaded alone, it always lacks a symbol (not a file) that ONNX Runtime itself provides.
        return str(error) if "cannot open shared object file" in str(error) else None
    return None
