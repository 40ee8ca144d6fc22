"""The int8 variant of the encoder, by ONNX Runtime's own quantizer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic

from mtaw_fast.export.onnx_files import ModelFiles, read_graph
from mtaw_fast.export.onnx_graph import TABLE, Graph


def quantized(source: ModelFiles, folder: Path) -> Graph:
    """The float32 graph in `source` with its table in uint8; `folder` takes the quantizer's files.

    The table of embeddings has one scale in all. The layers stay in float32: they are few of the bytes, and in int8
    they took time and top-20 overlap.
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
    """Silence the quantizer's advice about preparing a model, which was written for other graphs than ours."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
