from collections.abc import Sequence
from typing import Any

import numpy as np

def cpu_isa() -> str: ...
def active_isa() -> str: ...
def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]: ...

class IdTable:
    @staticmethod
    def of_ints(values: np.ndarray, sorted: np.ndarray, order: np.ndarray) -> IdTable: ...
    @staticmethod
    def of_texts(blob: np.ndarray, offsets: np.ndarray, slots: np.ndarray) -> IdTable: ...
    @staticmethod
    def slots_of(blob: np.ndarray, offsets: np.ndarray) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def lookup(self, ids: Sequence[Any]) -> np.ndarray: ...
    def known(self, ids: Sequence[Any]) -> np.ndarray: ...
    def external(self, internal: np.ndarray) -> list[Any]: ...

class Engine:
    def __init__(self, ids: IdTable, encoder: Encoder, scanner: Scanner, scale: float) -> None: ...
    def recommend(
        self,
        session: Sequence[Any],
        k: int,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
        repeats: bool = False,
    ) -> tuple[Any, Any, list[Any], np.ndarray | None, Any]: ...
    def recommend_live(
        self,
        state: SessionState,
        clicks: np.ndarray,
        fresh: int,
        k: int,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
        repeats: bool = False,
    ) -> tuple[list[Any], np.ndarray, None, np.ndarray | None, tuple[float, float, float]]: ...
    def rank(
        self,
        items: np.ndarray,
        offsets: np.ndarray,
        k: int,
        excluded: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        exclude_seen: bool = False,
    ) -> tuple[np.ndarray, np.ndarray, float, float]: ...
