"""Which GPU FAISS searches on, how much memory it may use there, and the error messages of both."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import faiss

from mtaw_fast.errors import UsageError, shown

_VARIABLE = "MTAW_GPU_TEMP_MIB"
_MIN_MIB, _DEFAULT_MIB, _MAX_MIB = 16, 256, 1536  # MiB; FAISS itself takes no more than the last
# What a search takes in addition to vectors and temporary memory: cuBLAS's workspace, and the kernels that CUDA loads
# when they first run.
_OVERHEAD = 128 << 20
_OUT_OF_MEMORY = "out of memory"  # CUDA's words for its error 2


class TooLittleMemoryError(UsageError):
    """A GPU has less free memory than the catalog needs."""


def sees_gpu() -> bool:
    """Return whether this FAISS is built for GPUs and sees one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def device_of(name: str) -> int:
    """Return the number of the GPU that 'faiss-gpu' (0) or 'faiss-gpu:NUMBER' names.

    Raises UsageError if FAISS does not see it.
    """
    device = int(name.partition(":")[2] or 0)
    n_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if n_gpus == 0:
        raise UsageError(f"index '{name}': FAISS sees no GPU; install 'mtaw-fast[gpu]' on a host with a GPU")
    if device >= n_gpus:
        gpus = "only GPU 0" if n_gpus == 1 else f"GPUs 0 to {n_gpus - 1}"
        raise UsageError(f"index '{name}': there is no GPU {device}, FAISS sees {gpus}; choose one of them")
    return device


def temporary_bytes() -> int:
    """Return the bytes that FAISS reserves on the GPU for a search: MTAW_GPU_TEMP_MIB, by default 256 MiB.

    FAISS's own default is 1.5 GiB a process; a service runs several processes on one card, perhaps next to a training.
    256 MiB is enough for 66 queries a call over 10 million items (`queries_a_call`).
    """
    text = os.environ.get(_VARIABLE, str(_DEFAULT_MIB))
    if not text.isdecimal() or not _MIN_MIB <= int(text) <= _MAX_MIB:
        raise UsageError(f"{_VARIABLE} is {shown(text)}; give MiB between {_MIN_MIB} and {_MAX_MIB}")
    return int(text) << 20


def queries_a_call(temporary: int, n_items: int, d: int, fetch: int) -> int:
    """Return how many queries one FAISS call can take within `temporary` bytes; at least 1.

    Its brute force needs two tiles of products, each at most 2^18 items wide (`chooseTileSize`), the best `fetch` of
    each tile twice, the queries and the results. FAISS would allocate more memory for what does not fit.
    """
    columns = min(n_items, 1 << 18)
    tiles = -(-n_items // columns)
    return max(1, temporary // (2 * 4 * columns + 2 * 12 * tiles * fetch + 12 * fetch + 4 * d))


def needed_bytes(n_items: int, d: int, temporary: int) -> int:
    """Return the bytes that a catalog takes on a GPU: float32 vectors and norms, temporary memory, and the overhead."""
    return 4 * n_items * (d + 1) + temporary + _OVERHEAD


def free_bytes(device: int) -> tuple[int, int] | None:
    """Return the (free, total) bytes of a GPU's memory; None if CUDA's runtime does not know.

    FAISS reports neither, so this calls the CUDA runtime that FAISS has loaded. The runtime's current device is kept.
    """
    runtime = _cuda_runtime()
    if runtime is None:
        return None
    current, free, total = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
    if runtime.cudaGetDevice(ctypes.byref(current)) != 0 or runtime.cudaSetDevice(device) != 0:
        return None
    try:
        is_known = runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    finally:
        runtime.cudaSetDevice(current.value)
    return (free.value, total.value) if is_known else None


def check_memory(name: str, device: int, n_items: int, d: int, temporary: int) -> None:
    """Raise TooLittleMemoryError if a catalog of N items does not fit into the free memory of the GPU."""
    memory = free_bytes(device)
    if memory is not None and memory[0] < needed_bytes(n_items, d, temporary):
        raise too_little(name, device, n_items, d, temporary)


def too_little(name: str, device: int, n_items: int, d: int, temporary: int) -> TooLittleMemoryError:
    """Return the error with the needed and the free memory."""
    memory = free_bytes(device)
    free = "less is free" if memory is None else f"{_gb(memory[0])} of {_gb(memory[1])} GB are free"
    return TooLittleMemoryError(
        f"index '{name}': {n_items:,} items need {_gb(needed_bytes(n_items, d, temporary))} GB on GPU {device} and "
        f"{free}; free some, name another GPU, or use index 'native'"
    )


def refusal(name: str, error: RuntimeError, device: int, n_items: int, d: int, temporary: int) -> UsageError:
    """Return the error of FAISS, raised while the catalog was copied to the GPU, as our own."""
    if _OUT_OF_MEMORY in str(error):
        return too_little(name, device, n_items, d, temporary)
    return UsageError(f"index '{name}': FAISS cannot use GPU {device} ({reason_of(error)}); use index 'native'")


def reason_of(error: RuntimeError) -> str:
    """Return the last clause of FAISS's message on one line, without its function, file and condition."""
    return " ".join(str(error).split()).rpartition(" failed: ")[2][:200]


def _cuda_runtime() -> ctypes.CDLL | None:
    """Return the CUDA runtime that is loaded in this process."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    match = re.search(r"\S*/libcudart[^/\s]*\.so\S*", maps)
    return None if match is None else ctypes.CDLL(match.group())


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f}"
