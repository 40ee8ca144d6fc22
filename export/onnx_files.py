"""ONNX models as files: checked, with large arrays in a second file if they are too large for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from mtaw_fast.bundle.writer import hashed_name
from mtaw_fast.errors import BundleError
from mtaw_fast.export.onnx_graph import GraphModel
from mtaw_fast.storage.files import sha256_of

_SMALL = 1024  # smaller arrays (bytes) always stay in the model
_PAGE = 4096  # arrays begin on a page, so that a runtime can map them


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk. data: the file with its arrays; None if they are in the model."""

    model: Path
    data: Path | None

    @property
    def size(self) -> int:
        """Bytes of both."""
        return self.model.stat().st_size + (0 if self.data is None else self.data.stat().st_size)


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


def read_graph(path: Path) -> GraphModel:
    """Read a model with its arrays, inside or outside of it."""
    model = onnx.load(path)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    model.graph.ClearField("initializer")
    return GraphModel(model, arrays)


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
