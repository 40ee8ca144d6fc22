import numpy as np

def cpu_isa() -> str: ...
def active_isa() -> str: ...
def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]: ...
def scan_quantise(catalog: np.ndarray, halves: bool) -> tuple[np.ndarray, np.ndarray, int, float, float]: ...
def read_bytes(array: np.ndarray, isa: str | None = None) -> int: ...

class Scanner:
    def __init__(
        self,
        catalog: np.ndarray,
        blocks: np.ndarray,
        half_blocks: np.ndarray | None,
        exponent: int,
        largest_norm: float,
        largest_residual: float,
        isa: str | None = None,
    ) -> None: ...
    def search(
        self,
        queries: np.ndarray,
        k: int,
        scale: float,
        allowed: np.ndarray | None = None,
        excluded: np.ndarray | None = None,
        excluded_offsets: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]: ...
