import numpy as np

def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]: ...
