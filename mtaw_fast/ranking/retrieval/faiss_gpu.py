"""FAISS's flat index on a GPU, made exact like the one on the CPU, and the memory that it may use there.

Not run on a GPU yet: the tests replace the GPU by FAISS's CPU index, with the errors of faiss-gpu without a card.
"""

from __future__ import annotations

import ctypes
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import MtawError, UsageError, shown
from mtaw_fast.ranking.retrieval.certificate import checked_norms, largest_norm, margins
from mtaw_fast.ranking.retrieval.faiss_flat import EXTRA, certified

if TYPE_CHECKING:
    from mtaw_fast.ranking.retrieval import Index

# Fetched results are rounded up to a power of two: FAISS's selection has a kernel for each, and none for more.
_MIN_FETCH, _MAX_FETCH = 32, 2048
_VARIABLE = "MTAW_GPU_TEMP_MIB"
_MIN_MIB, _DEFAULT_MIB, _MAX_MIB = 16, 256, 1536  # MiB; FAISS itself takes no more than the last
# What a search takes in addition to vectors and temporary memory: cuBLAS's workspace, and the kernels that CUDA loads
# when they first run.
_OVERHEAD = 128 << 20
_OUT_OF_MEMORY = "out of memory"  # CUDA's words for its error 2


class FaissGpuIndex:
    """`Index` by GpuIndexFlatIP in float32 on one GPU, with an exact CPU index for what a GPU index cannot do.

    Three cases go to `exact`: filters, k over 2048 minus the over-fetch, and the rare query with more near-ties than
    that. The proof in `certificate.py` holds for float32 sums in any order. It does not hold for TF32
    (NVIDIA_TF32_OVERRIDE) or for cuVS, which is switched off. FAISS's GPU resources serve one thread at a time, so
    threads wait for each other's calls.

    catalog: float32[N, d]; the rerank reads it, the GPU has a copy. exact: over the same catalog. name: 'faiss-gpu', or
    'faiss-gpu:NUMBER' of the device. Raises UsageError if FAISS does not see the GPU or cannot use it, if
    MTAW_GPU_TEMP_MIB is not a valid amount of memory, or if the GPU has too little free memory.
    """

    def __init__(self, catalog: np.ndarray, exact: Index, name: str = "faiss-gpu") -> None:
        self.name = name
        self._catalog, self._exact = catalog, exact
        device, temporary = device_of(name), temporary_bytes()
        n_items, d = catalog.shape
        needed = 4 * n_items * (d + 1) + temporary + _OVERHEAD  # the vectors and their norms in float32
        memory = free_bytes(device)
        if memory is not None and memory[0] < needed:
            raise _too_little(name, n_items, needed, device)
        try:
            self._resources, self._index = _on_device(catalog, device, temporary)
        except RuntimeError as error:
            if _OUT_OF_MEMORY in str(error):
                raise _too_little(name, n_items, needed, device) from None
            reason = _reason_of(error)
            raise UsageError(f"index '{name}': FAISS cannot use GPU {device} ({reason}); use index 'native'") from None
        self._norm = largest_norm(catalog)
        self._max_queries = queries_a_call(temporary, n_items, d, _MAX_FETCH)
        self._calling = threading.Lock()
        self._process = os.getpid()

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search as `Index.search` does. Raises MtawError if the GPU fails during the search."""
        n_items, d = self._catalog.shape
        norms = checked_norms(queries, d, k, allowed, n_items)
        needed = min(k + EXTRA, n_items)
        if allowed is not None or needed > _MAX_FETCH or len(queries) == 0:
            return self._exact.search(queries, k, allowed, scale=scale)
        if os.getpid() != self._process:
            raise UsageError(f"index '{self.name}' was loaded before this process was forked; load it after the fork")
        queries = np.ascontiguousarray(queries)
        fetched = self._fetched(queries, min(max(_MIN_FETCH, 1 << (needed - 1).bit_length()), n_items))
        margin = margins(d, norms, self._norm, scale)
        return certified(queries, self._catalog, fetched, margin, self._exact, k, None, scale)

    def _fetched(self, queries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the dots and ids of the best items; other threads may call between the parts of a long batch."""
        parts = []
        for begin in range(0, len(queries), self._max_queries):
            try:
                with self._calling:
                    parts.append(self._index.search(queries[begin : begin + self._max_queries], fetch))
            except RuntimeError as error:
                raise MtawError(
                    f"index '{self.name}': the GPU failed ({_reason_of(error)}); check what else runs on it, then load "
                    "again"
                ) from None
        dots, ids = zip(*parts, strict=True)
        return np.concatenate(dots), np.concatenate(ids)


def _on_device(catalog: np.ndarray, device: int, temporary: int) -> tuple[Any, Any]:
    """Return FAISS's resources and the index over the catalog, both on a GPU.

    Pinned memory stays at 0: FAISS uses it only for queries of over 256 MB, and ours are smaller.
    """
    library: Any = faiss  # a FAISS for CPUs, which mypy may see, has none of these
    resources = library.StandardGpuResources()
    resources.setTempMemory(temporary)
    resources.setPinnedMemory(0)
    config = library.GpuIndexFlatConfig()
    config.device = device
    config.use_cuvs = False
    config.useFloat16 = False
    index = library.GpuIndexFlatIP(resources, catalog.shape[1], config)
    index.add(catalog)
    return resources, index


def n_gpus() -> int:
    """Return how many GPUs this FAISS sees; 0 if it is built for CPUs."""
    return faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0


def device_of(name: str) -> int:
    """Return the number of the GPU that 'faiss-gpu' (0) or 'faiss-gpu:NUMBER' names.

    Raises UsageError if FAISS does not see it.
    """
    device, count = int(name.partition(":")[2] or 0), n_gpus()
    if count == 0:
        raise UsageError(f"index '{name}': FAISS sees no GPU; install 'mtaw-fast[gpu]' on a host with a GPU")
    if device >= count:
        gpus = "only GPU 0" if count == 1 else f"GPUs 0 to {count - 1}"
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


def _too_little(name: str, n_items: int, needed: int, device: int) -> UsageError:
    memory = free_bytes(device)
    free = "less is free" if memory is None else f"{memory[0] / 1e9:.1f} of {memory[1] / 1e9:.1f} GB are free"
    return UsageError(
        f"index '{name}': {n_items:,} items need {needed / 1e9:.1f} GB on GPU {device} and {free}; free some, name "
        "another GPU, or use index 'native'"
    )


def _reason_of(error: RuntimeError) -> str:
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
