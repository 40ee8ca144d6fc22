"""The encoder inside the whole graph, and the logits of the whole catalog in the arithmetic of each variant.

Axes: B sessions, N items, d.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.export.onnx_graph import encoder_graph
from mtaw_fast.export.whole.nodes import FLOAT32, Graph, Value

_HALF, _BYTE, _INT = np.dtype(np.float16), np.dtype(np.uint8), np.dtype(np.int32)


def encoded(
    g: Graph, config: Config, weights: Mapping[str, np.ndarray], variant: str, ids: Value, lengths: Value
) -> Value:
    """Return the unit queries float32[B, d] of sessions of internal ids int32[B, L], padded with -1, L >= 1."""
    parts = encoder_graph(config, weights, variant)
    # Prefix the encoder's names: the whole graph has its own `lengths` and `now`.
    new_names = {name: f"encoder_{name}" for node in parts.model.graph.node for name in node.output}
    new_names |= {"ids": ids.name, "lengths": lengths.name}
    for node in parts.model.graph.node:
        inputs, outputs = ([new_names.get(name, name) for name in names] for names in (node.input, node.output))
        node.ClearField("input")
        node.ClearField("output")
        node.input.extend(inputs)
        node.output.extend(outputs)
        node.name = outputs[0]
        g.nodes.append(node)
    for name, array in parts.arrays.items():
        g.table(name, array)
    return g.value(new_names["query"], FLOAT32)


def catalog_logits(g: Graph, query: Value, vectors: np.ndarray, scale: float, variant: str) -> Value:
    """Return float32[B, N]: scale * cos of queries float32[B, d] and the catalog float32[N, d]."""
    scaled = query * float(scale)
    if variant == "int8":
        return _by_bytes(g, scaled, vectors)
    if variant == "fp16":
        catalog = g.table("catalog", np.ascontiguousarray(vectors.T.astype(_HALF)))
        return (scaled.cast(_HALF) @ catalog).cast(FLOAT32)
    return scaled @ g.table("catalog", np.ascontiguousarray(vectors.T))


def _by_bytes(g: Graph, scaled: Value, vectors: np.ndarray) -> Value:
    """Compute the logits in int8: the catalog as uint8 around 128 with a scale for each item, queries quantized."""
    steps = np.maximum(np.abs(vectors).max(axis=1), np.finfo(np.float32).tiny) / np.float32(127)
    codes = (np.rint(vectors / steps[:, None]) + 128).astype(np.uint8)
    bytes_, step, zero = g.ops("DynamicQuantizeLinear", [scaled], [_BYTE, FLOAT32, _BYTE])
    catalog = g.table("catalog", np.ascontiguousarray(codes.T))
    products = g.op("MatMulInteger", bytes_, catalog, zero, g.constant(np.array(128, np.uint8)), dtype=_INT)
    return products.cast(FLOAT32) * (g.table("catalog_steps", steps.astype(np.float32)) * step)
