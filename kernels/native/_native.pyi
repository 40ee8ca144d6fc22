import numpy as np

def cpu_isa() -> str: ...
def active_isa() -> str: ...
def aw_loss(
    queries: np.ndarray,
    items: np.ndarray,
    targets: np.ndarray,
    row_weights: np.ndarray,
    scale: float,
    gamma: float,
    loss: np.ndarray,
    d_queries: np.ndarray | None,
    d_items: np.ndarray | None,
    compute: str,
    threads: int,
    isa: str | None = None,
) -> None: ...
def aw_loss_exp2(x: np.ndarray, compute: str, isa: str | None = None) -> np.ndarray: ...
def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]: ...
