"""The GPU index with FAISS's CPU index in place of the GPU: everything except the device itself.

The stand-in raises the errors that faiss-gpu raises without a card (`tests.support.ranking.gpu_refusals`).
"""

from __future__ import annotations

import ctypes
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking import retrieval
from mtaw_fast.ranking.retrieval import NumpyIndex, make_index
from tests.support.ranking.catalogs import same
from tests.support.ranking.gpu_refusals import NO_GPUS, invalid_device, out_of_memory

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.ranking.retrieval import faiss_gpu as gpu  # noqa: E402

N, D = 4000, 21
GB = 10**9


@cache
def catalog() -> np.ndarray:
    return normalized(np.random.default_rng(0).standard_normal((N, D)).astype(np.float32))


class Card:
    """Two GPUs as FAISS shows them; what was asked of them; the error that the next call meets."""

    def __init__(self) -> None:
        self.gpus = 2
        self.memory: tuple[int, int] | None = (60 * GB, 80 * GB)
        self.asked: dict[str, Any] = {}
        self.calls: list[int] = []
        self.add_error = self.search_error = ""
        self.inside = 0

    def put_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        card = self

        class Resources:
            def setTempMemory(self, size: int) -> None:  # noqa: N802
                card.asked["temporary"] = size

            def setPinnedMemory(self, size: int) -> None:  # noqa: N802
                card.asked["pinned"] = size

        class Config:
            device, use_cuvs, useFloat16 = 0, True, False  # noqa: N815

        class Index:
            def __init__(self, resources: Resources, d: int, config: Config) -> None:
                if config.device >= card.gpus:
                    raise RuntimeError(invalid_device(config.device))
                card.asked.update(device=config.device, use_cuvs=config.use_cuvs)
                self.index = faiss.IndexFlatIP(d)

            def add(self, rows: np.ndarray) -> None:
                if card.add_error:
                    raise RuntimeError(card.add_error)
                self.index.add(rows)

            def search(self, rows: np.ndarray, k: int) -> Any:
                card.inside += 1
                assert card.inside == 1, "two threads on one of FAISS's GPU resources"
                card.calls.append(len(rows))
                try:
                    if card.search_error:
                        raise RuntimeError(card.search_error)
                    return self.index.search(rows, k)
                finally:
                    card.inside -= 1

        monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
        monkeypatch.setattr(faiss, "GpuIndexFlatConfig", Config, raising=False)
        monkeypatch.setattr(faiss, "GpuIndexFlatIP", Index, raising=False)
        monkeypatch.setattr(faiss, "get_num_gpus", lambda: card.gpus, raising=False)
        monkeypatch.setattr(gpu, "free_bytes", lambda device: card.memory)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    card.put_in(monkeypatch)
    return card


@cache
def queries() -> np.ndarray:
    return normalized(np.random.default_rng(1).standard_normal((40, D)).astype(np.float32))


@pytest.mark.parametrize("k", [1, 20, 21, 300, 2036, 2037, N + 3])
def test_equals_the_exact_index(card: Card, k: int) -> None:
    index = make_index("faiss-gpu", catalog())
    exact = NumpyIndex(catalog())
    assert index.name == "faiss-gpu"
    assert same(index.search(queries(), k, scale=16.0), exact.search(queries(), k, scale=16.0))
    assert bool(card.calls) == (k <= 2036)
    mask = Filter(np.random.default_rng(4).random(N) < 0.3)
    assert same(index.search(queries()[:3], k, mask), exact.search(queries()[:3], k, mask))
    assert index.search(queries()[:0], k)[0].shape == (0, k)


def test_small_catalogs_and_more_ties_than_it_fetches(card: Card) -> None:
    rows = np.repeat(catalog()[:3], 50, axis=0)
    for items in (rows, rows[:7], rows[:1]):
        assert same(make_index("faiss-gpu", items).search(rows[:2], 10), NumpyIndex(items).search(rows[:2], 10))


def test_threads_call_one_at_a_time(card: Card) -> None:
    index, exact = make_index("faiss-gpu", catalog()), NumpyIndex(catalog())
    expected = {k: exact.search(queries(), k) for k in (5, 20, 40)}

    def one(number: int) -> bool:
        row, k = number % len(queries()), (5, 20, 40)[number % 3]
        return same(index.search(queries()[row : row + 1], k), tuple(part[row : row + 1] for part in expected[k]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(400)))
    assert sum(card.calls) == 400


def test_what_it_asks_of_the_device(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    make_index("faiss-gpu:1", catalog())
    assert card.asked == {"temporary": 256 << 20, "pinned": 0, "device": 1, "use_cuvs": False}
    monkeypatch.setenv("MTAW_GPU_TEMP_MIB", "16")
    index = make_index("faiss-gpu:0", catalog())
    assert (index.name, card.asked["temporary"], card.asked["device"]) == ("faiss-gpu:0", 16 << 20, 0)
    for wrong in ("", "x", "-5", "15", "1537", "1e3"):
        monkeypatch.setenv("MTAW_GPU_TEMP_MIB", wrong)
        with pytest.raises(UsageError, match=f"MTAW_GPU_TEMP_MIB is '{wrong}'; give MiB between 16 and 1536"):
            make_index("faiss-gpu", catalog())


def test_a_call_is_as_large_as_its_temporary_memory(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gpu.queries_a_call(256 << 20, 10_000_000, 100, 2048) == 66
    assert gpu.queries_a_call(256 << 20, 1 << 18, 100, 2048) == 123
    assert gpu.queries_a_call(1, 10_000_000, 100, 2048) == 1
    monkeypatch.setattr(gpu, "queries_a_call", lambda *_: 16)
    index = make_index("faiss-gpu", catalog())
    assert same(index.search(queries(), 20), NumpyIndex(catalog()).search(queries(), 20))
    assert card.calls == [16, 16, 8]


def test_refusals_of_a_device(card: Card) -> None:
    with pytest.raises(UsageError) as caught:
        make_index("faiss-gpu:2", catalog())
    assert str(caught.value) == "index 'faiss-gpu:2': there is no GPU 2, FAISS sees GPUs 0 to 1; choose one of them"
    card.gpus = 1
    with pytest.raises(UsageError, match="'faiss-gpu:1': there is no GPU 1, FAISS sees only GPU 0; choose one of them"):
        make_index("faiss-gpu:1", catalog())
    card.gpus = NO_GPUS
    for name in ("faiss-gpu", "faiss-gpu:1"):
        with pytest.raises(UsageError, match=rf"index '{name}': FAISS sees no GPU; install 'mtaw-fast\[gpu\]'"):
            make_index(name, catalog())
    for name in ("faiss-gpu:", "faiss-gpu:x", "faiss-gpu:-1", "faiss-gpu:1:2", "faiss-gpu1", "gpu:1", "faiss-gpu:1\n"):
        with pytest.raises(UsageError, match=r"there is no index .* or faiss-gpu:1 for the second GPU"):
            make_index(name, catalog())


def test_a_device_that_faiss_cannot_use(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS refuses a device that it counted before and that is gone when the index is made."""
    monkeypatch.setattr(gpu, "device_of", lambda _: 2)
    with pytest.raises(UsageError) as caught:
        make_index("faiss-gpu", catalog())
    assert str(caught.value) == "index 'faiss-gpu': FAISS cannot use GPU 2 (Invalid GPU device 2); use index 'native'"


def test_auto(card: Card, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert make_index("auto", catalog()).name == "native"
    monkeypatch.setattr(retrieval, "EXACT_ITEMS", N - 1)
    assert make_index("auto", catalog()).name == "faiss-gpu"
    caplog.set_level(logging.WARNING, logger="mtaw_fast")
    card.memory = (3 * 10**8, 16 * GB)
    assert make_index("auto", catalog()).name == "native"
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "index: auto continues without the GPU: index 'faiss-gpu': 4,000 items need 0.4 GB on GPU 0 and 0.3 of 16.0 GB "
    )
    assert "\n" not in line
    caplog.clear()
    card.gpus = NO_GPUS
    assert make_index("auto", catalog()).name == "native"
    assert caplog.records == []
    card.gpus = 1
    monkeypatch.setenv("MTAW_GPU_TEMP_MIB", "lots")  # no refusal by the GPU: auto does not choose another index
    with pytest.raises(UsageError, match="MTAW_GPU_TEMP_MIB is 'lots'; give MiB between"):
        make_index("auto", catalog())


def test_a_gpu_that_fails_while_it_is_searched(card: Card) -> None:
    index = make_index("faiss-gpu", catalog())
    card.search_error = out_of_memory(1 << 30)
    with pytest.raises(MtawError) as caught:
        index.search(queries(), 20)
    assert str(caught.value) == (
        "index 'faiss-gpu': the GPU failed (StandardGpuResources: alloc fail type FlatData dev 0 space Device stream "
        "0x55d5a8e6f2a0 size 1073741824 bytes (cudaMalloc error out of memory [2])); check what else runs on it, "
        "then load again"
    )
    card.search_error = ""
    assert same(index.search(queries(), 20), NumpyIndex(catalog()).search(queries(), 20))


def test_a_forked_process_is_refused(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    index = make_index("faiss-gpu", catalog())
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    with pytest.raises(UsageError, match="index 'faiss-gpu' was loaded before this process was forked; load it"):
        index.search(queries(), 20)


def test_too_little_memory(card: Card) -> None:
    card.memory = (3 * 10**8, 16 * GB)
    with pytest.raises(UsageError) as caught:
        make_index("faiss-gpu:1", catalog())
    assert str(caught.value) == (
        "index 'faiss-gpu:1': 4,000 items need 0.4 GB on GPU 1 and 0.3 of 16.0 GB are free; free some, name another "
        "GPU, or use index 'native'"
    )
    assert card.asked == {}  # nothing was allocated
    # The free memory is used up before the allocation, or CUDA's runtime does not report it.
    for card.memory, free in (((60 * GB, 80 * GB), "60.0 of 80.0 GB are free"), (None, "less is free")):
        card.add_error = out_of_memory(4 * N * D)
        with pytest.raises(UsageError, match=f"0.4 GB on GPU 0 and {free}; free some"):
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
    monkeypatch.setattr(gpu, "_cuda_runtime", lambda: runtime)
    assert gpu.free_bytes(3) == (15 * GB, 80 * GB)
    assert runtime.on == 0
    runtime.ready = False
    assert gpu.free_bytes(3) is None
    monkeypatch.setattr(gpu, "_cuda_runtime", lambda: None)
    assert gpu.free_bytes(0) is None
