"""The memory of a GPU: what is free, and what an index needs."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from mtaw_fast.ranking.retrieval import make_index
from tests.support.ranking.gpu_card import GB, Card, D, N, catalog
from tests.support.ranking.gpu_refusals import out_of_memory

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.ranking.retrieval import gpu_memory as gpu_device  # noqa: E402


def test_too_little_memory(card: Card) -> None:
    card.memory = (3 * 10**8, 16 * GB)
    with pytest.raises(gpu_device.TooLittleMemoryError) as caught:
        make_index("faiss-gpu:1", catalog())
    assert str(caught.value) == (
        "index 'faiss-gpu:1': 4,000 items need 0.4 GB on GPU 1 and 0.3 of 16.0 GB are free; free some, name another "
        "GPU, or use index 'native'"
    )
    assert card.asked == {}  # nothing was allocated
    # The free memory is used up before the allocation, or CUDA's runtime does not report it.
    for card.memory, free in (((60 * GB, 80 * GB), "60.0 of 80.0 GB are free"), (None, "less is free")):
        card.add_error = out_of_memory(4 * N * D)
        with pytest.raises(gpu_device.TooLittleMemoryError, match=f"0.4 GB on GPU 0 and {free}; free some"):
            make_index("faiss-gpu", catalog())


def test_memory_that_cuda_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        on, ready = 0, True

        def cudaGetDevice(self, device: Any) -> int:  # noqa: N802
            ctypes.cast(device, ctypes.POINTER(ctypes.c_int))[0] = self.on
            return 0 if self.ready else 35  # "CUDA driver version is insufficient for CUDA runtime version"

        def cudaSetDevice(self, device: int) -> int:  # noqa: N802
            self.on = device
            return 0

        def cudaMemGetInfo(self, free: Any, total: Any) -> int:  # noqa: N802
            ctypes.cast(free, ctypes.POINTER(ctypes.c_size_t))[0] = 5 * GB * self.on
            ctypes.cast(total, ctypes.POINTER(ctypes.c_size_t))[0] = 80 * GB
            return 0

    runtime = Runtime()
    monkeypatch.setattr(gpu_device, "_cuda_runtime", lambda: runtime)
    assert gpu_device.free_bytes(3) == (15 * GB, 80 * GB)
    assert runtime.on == 0
    runtime.ready = False
    assert gpu_device.free_bytes(3) is None
    monkeypatch.setattr(gpu_device, "_cuda_runtime", lambda: None)
    assert gpu_device.free_bytes(0) is None
