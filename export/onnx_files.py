"""ONNX models as files: checked, and with their large arrays in a file beside them where they are too large for one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, shape_inference

from mtaw_fast.bundle_writer import hashed_name
from mtaw_fast.errors import BundleError
from mtaw_fast.files import sha256_of

_SMALL = 1024  # bytes of an array that stays in the model all the same
_PAGE = 4096  # arrays begin on a page, so that a runtime can map them


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk. data: the file with its arrays, beside it; None where they are in the model."""

    model: Path
    data: Path | None

    @property
    def size(self) -> int:
        """Bytes of both."""
        return self.model.stat().st_size + (0 if self.data is None else self.data.stat().st_size)


def write_model(model: ModelProto, folder: Path, part: str, external_over: int) -> ModelFiles:
    """Write `part`.onnx into `folder` and check it; `model` itself loses the arrays that go to a file of their own.

    Over `external_over` bytes of arrays they go to `part`_data-<hash>.bin, the name that the file has in a bundle.
    Raises BundleError where onnx's checker or its strict shape inference finds fault.
    """
    path, data = folder / f"{part}.onnx", None
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) > external_over:
        data = _move_arrays(model, folder, f"{part}_data")
    path.write_bytes(model.SerializeToString())
    try:
        onnx.checker.check_model(path, full_check=True)
        # With the arrays outside, the model is small: shapes need their types and extents alone.
        shape_inference.infer_shapes(model if data else onnx.load(path), check_type=True, strict_mode=True)
    except (onnx.checker.ValidationError, shape_inference.InferenceError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"the exported graph {part} is not valid ONNX ({reason}); this is a defect") from None
    return ModelFiles(path, data)


def _move_arrays(model: ModelProto, folder: Path, part: str) -> Path:
    """Write the large arrays one after the other and leave in the model where each of them is."""
    draft = folder / f"{part}.bin"
    places: list[tuple[TensorProto, int, int]] = []
    with draft.open("wb") as stream:
        for tensor in model.graph.initializer:
            length = len(tensor.raw_data)
            if length <= _SMALL:
                continue
            stream.write(b"\0" * (-stream.tell() % _PAGE))
            places.append((tensor, stream.tell(), length))
            stream.write(tensor.raw_data)
            tensor.ClearField("raw_data")
    path = draft.rename(folder / hashed_name(part, sha256_of(draft), "bin"))
    for tensor, offset, length in places:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", path.name), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
    return path
