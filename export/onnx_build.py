"""The graphs of one bundle, in every variant, as checked files."""

from __future__ import annotations

import shutil
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, model_hash
from mtaw_fast.export.onnx_files import ModelFiles, write_graph
from mtaw_fast.export.onnx_graph import Graph, describe, encoder_graph, recommender_graph
from mtaw_fast.export.onnx_int8 import quantised

GRAPH_VERSION = 1  # of the graphs' inputs, outputs and metadata
HOLDS = "the neural part of the model alone; a session memory is not in the graph"
_SUMMARIES = {
    "encoder": "MTAW: clicks of sessions to unit query vectors",
    "recommender": "MTAW: clicks of sessions to the top k of the catalog",
}


class Builder:
    """Makes the graphs of `bundle` in `folder`. external_over: see `onnx_files.write_graph`."""

    def __init__(self, bundle: Bundle, folder: Path, external_over: int) -> None:
        self._bundle, self._folder, self._external_over = bundle, folder, external_over

    def build(self, graph: str, variant: str) -> ModelFiles:
        """The graph 'encoder' or 'recommender' in 'float32', 'fp16' or 'int8'."""
        bundle = self._bundle
        if variant == "int8":
            source = self._folder / f"source_{graph}"
            source.mkdir()
            whole = self._graph(graph, "float32", overridable=False)
            made = quantised(write_graph(whole, source, graph, self._external_over), source)
            shutil.rmtree(source)
        else:
            made = self._graph(graph, variant, overridable=variant == "float32")
        about = {
            "graph_version": GRAPH_VERSION,
            "bundle_format_version": bundle.manifest["format_version"],
            "model": model_hash(bundle.manifest),
            "variant": variant,
            "n_items": bundle.n_items,
            "d": bundle.config.d,
            "max_len": bundle.config.max_len,
            "scale": bundle.config.scale,
            "holds": HOLDS,
        }
        describe(made.model, {f"mtaw_fast.{name}": value for name, value in about.items()}, _SUMMARIES[graph])
        return write_graph(made, self._folder, GRAPH_PARTS[graph, variant], self._external_over)

    def _graph(self, graph: str, dtype: str, overridable: bool) -> Graph:
        bundle = self._bundle
        if graph == "encoder":
            return encoder_graph(bundle.config, bundle.weights, dtype, overridable)
        return recommender_graph(bundle.config, bundle.weights, bundle.item_vectors, dtype)
