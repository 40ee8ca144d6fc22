"""The graphs of one bundle, in every variant, as checked files."""

from __future__ import annotations

import shutil
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, model_hash
from mtaw_fast.export.onnx_files import ModelFiles, write_graph
from mtaw_fast.export.onnx_graph import ENCODER_WORDS, Graph, describe, encoder_graph
from mtaw_fast.export.onnx_int8 import quantized
from mtaw_fast.export.whole.recommender import WORDS, whole_graph

GRAPH_VERSION = 2  # of the graphs' inputs, outputs and metadata
_SUMMARIES = {
    "encoder": "MTAW: clicks of sessions to unit query vectors",
    "recommender": "mtaw_fast: clicks of sessions to the ranking that the Recommender gives",
}
_HOLDS = {
    "encoder": "the encoder alone; no external ids, search, conditions, session memory or ranker",
    "recommender": "the whole: external ids, encoder, search, conditions, and the bundle's session memory and ranker",
}


class Builder:
    """Makes the graphs of `bundle` in `folder`. external_over: see `onnx_files.write_graph`."""

    def __init__(self, bundle: Bundle, folder: Path, external_over: int) -> None:
        self._bundle, self._folder, self._external_over = bundle, folder, external_over

    def build(self, graph: str, variant: str) -> ModelFiles:
        """The graph 'encoder' or 'recommender' in 'float32', 'fp16' or 'int8'."""
        made = self._encoder(variant) if graph == "encoder" else whole_graph(self._bundle.model, variant)
        return self._written(made, graph, variant, GRAPH_PARTS[graph, variant])

    def build_per_session(self) -> ModelFiles:
        """The recommender in float32 with conditions for each session; see `whole_graph`."""
        made = whole_graph(self._bundle.model, "float32", per_session=True)
        return self._written(made, "recommender", "float32", "recommender")

    def _written(self, made: Graph, graph: str, variant: str, part: str) -> ModelFiles:
        bundle = self._bundle
        about = {
            "graph_version": GRAPH_VERSION,
            "bundle_format_version": bundle.manifest["format_version"],
            "model": model_hash(bundle.manifest),
            "variant": variant,
            "n_items": bundle.n_items,
            "d": bundle.config.model.embedding_dim,
            "max_len": bundle.config.model.max_session_length,
            "scale": bundle.config.model.scale,
            "holds": _HOLDS[graph],
        }
        if graph == "recommender" and bundle.model.trends is not None:
            about["newest_click"] = int(bundle.model.trends.clock[-1])
        words = ENCODER_WORDS if graph == "encoder" else WORDS
        describe(made.model, {f"mtaw_fast.{name}": value for name, value in about.items()}, _SUMMARIES[graph], words)
        return write_graph(made, self._folder, part, self._external_over)

    def _encoder(self, variant: str) -> Graph:
        config, weights = self._bundle.config, self._bundle.weights
        if variant != "int8":
            return encoder_graph(config, weights, variant, overridable=variant == "float32")
        source = self._folder / "source_encoder"
        source.mkdir()
        made = quantized(
            write_graph(encoder_graph(config, weights, "float32", False), source, "encoder", self._external_over),
            source,
        )
        shutil.rmtree(source)
        return made
