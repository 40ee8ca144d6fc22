"""The encoder's logits of the whole catalog, in the arithmetic of each variant.

Axes: B sessions, N items, d.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.export.whole.nodes import FLOAT, Graph, Value

_HALF, _BYTE, _INT = np.dtype(np.float16), np.dtype(np.uint8), np.dtype(np.int32)


def catalog_logits(g: Graph, query: Value, vectors: np.ndarray, scale: float, variant: str) -> Value:
    """float32[B, N]: scale * cos of queries float32[B, d] and the catalog float32[N, d]."""
    scaled = query * float(scale)
    if variant == "int8":
        return _by_bytes(g, scaled, vectors)
    if variant == "fp16":
        catalog = g.table("catalog", np.ascontiguousarray(vectors.T.astype(_HALF)))
        return (scaled.to(_HALF) @ catalog).to(FLOAT)
    return scaled @ g.table("catalog", np.ascontiguousarray(vectors.T))


def _by_bytes(g: Graph, scaled: Value, vectors: np.ndarray) -> Value:
    """The catalog as uint8 around 128, with a scale for each item; queries are quantized as they come."""
    steps = np.maximum(np.abs(vectors).max(axis=1), np.finfo(np.float32).tiny) / np.float32(127)
    codes = (np.rint(vectors / steps[:, None]) + 128).astype(np.uint8)
    bytes_, step, zero = g.ops("DynamicQuantizeLinear", [scaled], [_BYTE, FLOAT, _BYTE])
    catalog = g.table("catalog", np.ascontiguousarray(codes.T))
    products = g.op("MatMulInteger", bytes_, catalog, zero, g.constant(np.array(128, np.uint8)), dtype=_INT)
    return products.to(FLOAT) * (g.table("catalog_steps", steps.astype(np.float32)) * step)
