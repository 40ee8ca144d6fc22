"""Build the graphs of a bundle, in every variant, as checked files."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, model_hash
from mtaw_fast.export.onnx_files import ModelFiles, read_graph, write_graph
from mtaw_fast.export.onnx_graph import ENCODER_WORDS, TABLE, GraphModel, describe, encoder_graph
from mtaw_fast.export.whole.recommender import WORDS, whole_graph

GRAPH_VERSION = 2  # of the graphs' inputs, outputs and metadata
_SUMMARIES = {
    "encoder": "MTAW: clicks of sessions to unit query vectors",
    "recommender": "mtaw_fast: clicks of sessions to the ranking that the Recommender gives",
}
_HOLDS = {
    "encoder": "only the encoder: no external ids, search, conditions, session memory or ranker",
    "recommender": "the whole: external ids, encoder, search, conditions, and the bundle's session memory and ranker",
}


class Builder:
    """Builds the graphs of `bundle` in `folder`. external_over: see `onnx_files.write_graph`."""

    def __init__(self, bundle: Bundle, folder: Path, external_over: int) -> None:
        self._bundle, self._folder, self._external_over = bundle, folder, external_over

    def build(self, graph: str, variant: str) -> ModelFiles:
        """Build the graph 'encoder' or 'recommender' in 'float32', 'fp16' or 'int8'."""
        built = self._encoder(variant) if graph == "encoder" else whole_graph(self._bundle.model, variant)
        return self._written(built, graph, variant, GRAPH_PARTS[graph, variant])

    def build_per_session(self) -> ModelFiles:
        """Build the recommender in float32 with conditions for each session; see `whole_graph`."""
        built = whole_graph(self._bundle.model, "float32", per_session=True)
        return self._written(built, "recommender", "float32", "recommender")

    def _written(self, onnx_graph: GraphModel, graph: str, variant: str, part: str) -> ModelFiles:
        bundle = self._bundle
        metadata = {
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
            metadata["newest_click"] = int(bundle.model.trends.clock[-1])
        words = ENCODER_WORDS if graph == "encoder" else WORDS
        describe(
            onnx_graph.model, {f"mtaw_fast.{name}": value for name, value in metadata.items()}, _SUMMARIES[graph], words
        )
        return write_graph(onnx_graph, self._folder, part, self._external_over)

    def _encoder(self, variant: str) -> GraphModel:
        config, weights = self._bundle.config, self._bundle.weights
        if variant != "int8":
            return encoder_graph(config, weights, variant, overridable=variant == "float32")
        source = self._folder / "source_encoder"
        source.mkdir()
        quantized_graph = quantized(
            write_graph(encoder_graph(config, weights, "float32", False), source, "encoder", self._external_over),
            source,
        )
        shutil.rmtree(source)
        return quantized_graph


def quantized(source: ModelFiles, folder: Path) -> GraphModel:
    """Return the float32 graph in `source` with its embeddings in uint8; `folder` is for the quantizer's files.

    The embeddings have a single scale. The layers stay in float32: they are small, and in int8 they were slower and
    reduced the top-20 overlap.
    """
    path = folder / "quantized.onnx"
    with _without_advice():
        quantize_dynamic(
            source.model,
            path,
            op_types_to_quantize=["Gather"],
            nodes_to_quantize=[TABLE],
            weight_type=QuantType.QUInt8,
            use_external_data_format=source.data is not None,
        )
    return read_graph(path)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantizer's advice about preparing a model, which does not apply to our graphs."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
