"""The encoder inside the graph of the whole."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.export.onnx_graph import TABLE, encoder_parts
from mtaw_fast.export.whole.nodes import FLOAT, INT, Graph, Value


def encoded(
    g: Graph, config: Config, weights: Mapping[str, np.ndarray], variant: str, ids: Value, lengths: Value
) -> Value:
    """The unit queries float32[B, d] of sessions of internal ids int32[B, L], filled up with -1, L >= 1."""
    parts = encoder_parts(config, weights, "fp16" if variant == "fp16" else "float32")
    # Names that are the encoder's own: the graph around it has a `lengths` and a `now` of its own too.
    named = {name: f"encoder_{name}" for node in parts.model.graph.node for name in node.output}
    named |= {"ids": ids.name, "lengths": lengths.name}
    for node in parts.model.graph.node:
        if variant == "int8" and node.output[0] == TABLE:
            _embeddings_by_bytes(g, weights["item_embedding"], named[node.input[1]], named[TABLE])
            continue
        read, made = ([named.get(name, name) for name in names] for names in (node.input, node.output))
        node.ClearField("input")
        node.ClearField("output")
        node.input.extend(read)
        node.output.extend(made)
        node.name = made[0]
        g.nodes.append(node)
    for name, array in parts.arrays.items():
        if variant != "int8" or name != "item_embedding":
            g.table(name, array)
    return g.value(named["query"], FLOAT)


def _embeddings_by_bytes(g: Graph, embeddings: np.ndarray, clicks: str, name: str) -> None:
    """The rows at `clicks` of a table in int8, with a scale for each item."""
    steps = np.maximum(np.abs(embeddings).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(127)
    codes = np.rint(embeddings / steps).astype(np.int8)
    places = g.value(clicks, INT)
    rows = g.table("item_codes", codes).at(places).to(FLOAT)
    g.op("Mul", rows, g.table("item_steps", steps.astype(np.float32)).at(places), name=name)
