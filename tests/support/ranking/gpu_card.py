"""A GPU that a test makes up, and a catalog for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from mtaw_fast.model.item_vectors import normalized
from tests.support.ranking.gpu_refusals import invalid_device

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.ranking.retrieval import faiss_gpu  # noqa: E402

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
        monkeypatch.setattr(faiss_gpu, "free_bytes", lambda device: card.memory)
