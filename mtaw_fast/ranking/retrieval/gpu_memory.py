"""Which GPU FAISS searches on, what memory it may take there, and the refusals of both in one line."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

import faiss

from mtaw_fast.errors import UsageError, shown

_VARIABLE = "MTAW_GPU_TEMP_MIB"
_LEAST, _USUAL, _MOST = 16, 256, 1536  # MiB; FAISS itself takes no more than the last
# What a search holds beside vectors and temporary memory: cuBLAS's workspace, kernels that CUDA loads when first run.
_BESIDE = 128 << 20
_OUT_OF_MEMORY = "out of memory"  # CUDA's words for its error 2


class TooLittleMemoryError(UsageError):
    """A GPU has less memory free than the catalog needs there."""


def sees_gpu() -> bool:
    """Whether this FAISS is built for GPUs and there is one."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def device_of(name: str) -> int:
    """The number of the GPU that 'faiss-gpu' (the first) or 'faiss-gpu:NUMBER' names.

    Raises UsageError where FAISS does not see it.
    """
    device = int(name.partition(":")[2] or 0)
    seen = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if seen == 0:
        raise UsageError(f"index '{name}': FAISS sees no GPU; install 'mtaw-fast[gpu]' where there is one")
    if device >= seen:
        there = "only GPU 0" if seen == 1 else f"GPUs 0 to {seen - 1}"
        raise UsageError(f"index '{name}': there is no GPU {device}, FAISS sees {there}; choose one of them")
    return device


def temporary_bytes() -> int:
    """Bytes that FAISS sets aside on the GPU for the products of a search: MTAW_GPU_TEMP_MIB, by default 256 MiB.

    FAISS would take 1.5 GiB in each process; a service has several on one card, perhaps beside a training. 256 MiB
    holds the products of 66 queries a call over 10 million items (`queries_a_call`), enough to share a reading.
    """
    text = os.environ.get(_VARIABLE, str(_USUAL))
    if not text.isdecimal() or not _LEAST <= int(text) <= _MOST:
        raise UsageError(f"{_VARIABLE} is {shown(text)}; give MiB between {_LEAST} and {_MOST}")
    return int(text) << 20


def queries_a_call(temporary: int, n_items: int, d: int, fetch: int) -> int:
    """How many queries FAISS can take in one call without more than `temporary` bytes for what it computes; at least 1.

    Its brute force holds two tiles of products, each as wide as 2^18 items at most (`chooseTileSize`), and beside them
    the best `fetch` of each tile, twice, queries and results. What does not fit it would allocate on top.
    """
    columns = min(n_items, 1 << 18)
    tiles = -(-n_items // columns)
    return max(1, temporary // (2 * 4 * columns + 2 * 12 * tiles * fetch + 12 * fetch + 4 * d))


def needed_bytes(n_items: int, d: int, temporary: int) -> int:
    """Bytes that a catalog takes on a GPU: vectors and their norms in float32, temporary memory, and what is beside."""
    return 4 * n_items * (d + 1) + temporary + _BESIDE


def free_bytes(device: int) -> tuple[int, int] | None:
    """(free, all) bytes of a GPU's memory; None where CUDA's runtime does not say.

    FAISS tells neither. The runtime that it has loaded does, and is left on the device that it was on.
    """
    runtime = _cuda_runtime()
    if runtime is None:
        return None
    before, free, total = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_size_t()
    if runtime.cudaGetDevice(ctypes.byref(before)) != 0 or runtime.cudaSetDevice(device) != 0:
        return None
    try:
        told = runtime.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total)) == 0
    finally:
        runtime.cudaSetDevice(before.value)
    return (free.value, total.value) if told else None


def check_memory(name: str, device: int, n_items: int, d: int, temporary: int) -> None:
    """Raise TooLittleMemoryError where a catalog of N items does not fit into what the GPU has free."""
    memory = free_bytes(device)
    if memory is not None and memory[0] < needed_bytes(n_items, d, temporary):
        raise too_little(name, device, n_items, d, temporary)


def too_little(name: str, device: int, n_items: int, d: int, temporary: int) -> TooLittleMemoryError:
    """The refusal, with what was needed and what was free."""
    memory = free_bytes(device)
    free = "less is free" if memory is None else f"{_gb(memory[0])} of {_gb(memory[1])} GB are free"
    return TooLittleMemoryError(
        f"index '{name}': {n_items:,} items need {_gb(needed_bytes(n_items, d, temporary))} GB on GPU {device} and "
        f"{free}; free some, name another GPU, or take index 'native'"
    )


def refusal(name: str, error: RuntimeError, device: int, n_items: int, d: int, temporary: int) -> UsageError:
    """What FAISS said while the catalog was put on the GPU, as an error of ours."""
    if _OUT_OF_MEMORY in str(error):
        return too_little(name, device, n_items, d, temporary)
    return UsageError(f"index '{name}': FAISS cannot use GPU {device} ({reason_of(error)}); take index 'native'")


def reason_of(error: RuntimeError) -> str:
    """The last clause of FAISS's message, without its function, file and condition, on one line."""
    return " ".join(str(error).split()).rpartition(" failed: ")[2][:200]


def _cuda_runtime() -> ctypes.CDLL | None:
    """The library that FAISS, or whoever else in the process, has loaded."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    found = re.search(r"\S*/libcudart[^/\s]*\.so\S*", maps)
    return None if found is None else ctypes.CDLL(found.group())


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f}"
