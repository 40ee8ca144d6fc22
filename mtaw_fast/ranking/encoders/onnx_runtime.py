"""Open an exported graph in ONNX Runtime, on the CPU or by CUDA; errors are one line."""

from __future__ import annotations

import contextlib
import ctypes
import io
from pathlib import Path

import onnxruntime

from mtaw_fast.errors import BundleError, UsageError

REMEDY = "export it again with 'mtaw-fast export BUNDLE --onnx'"
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def session_options() -> onnxruntime.SessionOptions:
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


def open_on_cpu(path: Path) -> onnxruntime.InferenceSession:
    """Open the graph on the CPU. Raises BundleError if it does not load."""
    try:
        return onnxruntime.InferenceSession(path, session_options(), providers=[_CPU])
    except Exception as error:  # ONNX Runtime's own have no common base
        raise _damaged(path, error) from None


def open_on_cuda(path: Path, name: str, device: int) -> onnxruntime.InferenceSession:
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
    options = session_options()
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
    return BundleError(f"ONNX Runtime {onnxruntime.__version__} cannot load {path} ({_line(error)}); {REMEDY}")


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
