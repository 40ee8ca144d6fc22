"""Named arrays on disk in the safetensors format, read as read-only views of memory that processes share.

safetensors' own numpy reader copies every tensor; here worker processes share one copy of a catalog (`sealed_file`).
`kernels/native/bundle/tensors.cpp` reads files, for bundles and others.
The layout is the public safetensors format: 8 bytes little-endian header length, a JSON header, then the raw
little-endian data. safetensors' own writer aligns the data to 8 bytes; this one aligns it to a cache line, where vector
loads are fastest.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.storage.files import atomic_path
from mtaw_fast.storage.sealed_file import mapping_of, open_for_reading
from mtaw_fast.system import host

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_LINE = 64  # bytes of a cache line


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` to `path` in safetensors format, atomically.

    Every array begins at a multiple of its item size, and of 64 bytes if its size is a multiple of 64. Raises KeyError
    on a dtype that the format does not have.
    """
    write_joined(path, {name: [array] for name, array in arrays.items()})


def write_joined(path: Path, pieces: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Write the file of `write_tensors` from arrays in pieces, which need not fit in memory together.

    pieces: by name, the parts of the array along its first axis; each part is read once.
    """
    text, order = _joined_layout(pieces)
    with atomic_path(path) as temporary, host.open_stream(temporary, "wb") as stream:
        stream.write(text)
        for name in order:
            for part in pieces[name]:
                stream.write(np.ascontiguousarray(part).data)


def digest_of_joined(pieces: Mapping[str, Sequence[np.ndarray]]) -> tuple[str, int]:
    """Return hex SHA-256 and size in bytes of the file that `write_joined` would write."""
    text, order = _joined_layout(pieces)
    digest, size = hashlib.sha256(text), len(text)
    for name in order:
        for part in pieces[name]:
            digest.update(np.ascontiguousarray(part).data)
            size += part.nbytes
    return digest.hexdigest(), size


def places_in_file(shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> tuple[bytes, dict[str, int], int]:
    """Return the layout that `write_tensors` gives arrays of these types and shapes, to write a file in pieces.

    Returns the first bytes of the file, the position of each array by name, and the size of the file.
    """
    text, _, places = _layout(shapes)
    ends = [len(text), *(places[name] + math.prod(shape) * dtype.itemsize for name, (dtype, shape) in shapes.items())]
    return text, places, max(ends)


def _joined_layout(pieces: Mapping[str, Sequence[np.ndarray]]) -> tuple[bytes, list[str]]:
    text, order, _ = _layout({name: (parts[0].dtype, _joined_shape(parts)) for name, parts in pieces.items()})
    return text, order


def _joined_shape(parts: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Return the shape of the joined pieces; a single piece may have no axis."""
    return parts[0].shape if len(parts) == 1 else (sum(map(len, parts)), *parts[0].shape[1:])


def _layout(shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> tuple[bytes, list[str], dict[str, int]]:
    """Return the first bytes of a file, the order of its arrays, and the position of each by name."""
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in shapes.items()}
    # Sizes divisible by larger powers of two first: then every array is aligned to its item size.
    order = sorted(sizes, key=lambda name: -(sizes[name] & -sizes[name]))
    header: dict[str, dict[str, Any]] = {}
    end = 0
    for name in order:
        dtype, shape = shapes[name]
        begin, end = end, end + sizes[name]
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _LINE)
    start = len(text).to_bytes(8, "little") + text
    return start, order, {name: len(start) + entry["data_offsets"][0] for name, entry in header.items()}


class Tensors(dict[str, np.ndarray]):
    """The arrays of a file by name. path: the file, for messages."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self.path = path

    def __str__(self) -> str:
        return str(self.path)


def map_tensors(source: Path | Tensors, mapping: str | None = None) -> Tensors:
    """Return every array of a file by name, as a read-only view of the sealed or mapped bytes.

    source: the file, or its arrays, which are copied by name. mapping: as in `sealed_file.open_sealed`, for a path.

    Raises DataError if the file is missing, is not a regular file, or is not exactly what its header describes.
    """
    if isinstance(source, Tensors):
        return Tensors(source.path, source)
    arrays = _native.map_tensors(os.fsencode(source), mapping_of(mapping), open_for_reading)
    return Tensors(source, arrays)
