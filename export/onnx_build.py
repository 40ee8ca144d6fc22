"""Build the graphs of a bundle, in every variant, as checked files.

Large arrays are in a second file if they are too large for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, model_hash
from mtaw_fast.bundle.writer import hashed_name
from mtaw_fast.errors import BundleError
from mtaw_fast.export.onnx_graph import ENCODER_WORDS, GraphModel, describe, encoder_graph
from mtaw_fast.export.whole.recommender import WORDS, whole_graph
from mtaw_fast.storage.files import sha256_of

_SMALL = 1024  # smaller arrays (bytes) always stay in the model
_PAGE = 4096  # arrays begin on a page, so that a runtime can map them
GRAPH_VERSION = 2  # of the graphs' inputs, outputs and metadata
_SUMMARIES = {
    "encoder": "MTAW: clicks of sessions to unit query vectors",
    "recommender": "mtaw_fast: clicks of sessions to the ranking that the Recommender gives",
}
_HOLDS = {
    "encoder": "only the encoder: no external ids, search, conditions, session memory or ranker",
    "recommender": "the whole: external ids, encoder, search, conditions, and the bundle's session memory and ranker",
}


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk. data: the file with its arrays; None if they are in the model."""

    model: Path
    data: Path | None

    @property
    def size(self) -> int:
        """Bytes of both."""
        return self.model.stat().st_size + (0 if self.data is None else self.data.stat().st_size)


class Builder:
    """Builds the graphs of `bundle` in `folder`. external_over: see `write_graph`."""

    def __init__(self, bundle: Bundle, folder: Path, external_over: int) -> None:
        self._bundle, self._folder, self._external_over = bundle, folder, external_over

    def build(self, graph: str, variant: str) -> ModelFiles:
        """Build the graph 'encoder' or 'recommender' in 'float32', 'fp16' or 'int8'."""
        if graph == "encoder":
            config, weights = self._bundle.config, self._bundle.weights
            built = encoder_graph(config, weights, variant, overridable=variant == "float32")
        else:
            built = whole_graph(self._bundle.model, variant)
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


def write_graph(graph: GraphModel, folder: Path, part: str, external_over: int) -> ModelFiles:
    """Write `part`.onnx into `folder` and check it.

    If the arrays have over `external_over` bytes, they are written to `part`_data-<hash>.bin, the file's name in a
    bundle. Raises BundleError if onnx's checker or its strict shape inference finds an error.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    path, data = folder / f"{part}.onnx", None
    inside = dict(graph.arrays)
    if sum(array.nbytes for array in inside.values()) > external_over:
        # Text is only allowed in the model itself.
        large = [name for name, array in graph.arrays.items() if array.nbytes > _SMALL and array.dtype != object]
        outside = {name: inside.pop(name) for name in large}
        data, tensors = _write_arrays(outside, folder, f"{part}_data")
        model.graph.initializer.extend(tensors)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in inside.items())
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(path, full_check=True)
        # Without the arrays the model is small; shape inference needs only their types and shapes.
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"the exported graph {part} is not valid ONNX ({reason}); please report this") from None
    return ModelFiles(path, data)


def _write_arrays(arrays: dict[str, np.ndarray], folder: Path, part: str) -> tuple[Path, list[TensorProto]]:
    """Write arrays one after the other; return the file, and tensors with their offsets in it."""
    draft = folder / f"{part}.bin"
    offsets = {}
    with draft.open("wb") as stream:
        for name, array in arrays.items():
            stream.write(b"\0" * (-stream.tell() % _PAGE))
            offsets[name] = stream.tell()
            np.ascontiguousarray(array).tofile(stream)
    path = draft.rename(folder / hashed_name(part, sha256_of(draft), "bin"))
    tensors = []
    for name, array in arrays.items():
        tensor = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(array.dtype), dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", path.name), ("offset", offsets[name]), ("length", array.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    return path, tensors
