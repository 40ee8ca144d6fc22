"""Named arrays on disk in the safetensors format, read back as read-only views of memory that processes share.

safetensors' own numpy reader copies every tensor for itself; here worker processes share one copy of a catalog
(`held`). The layout is the public safetensors format:
8 bytes little-endian header length, a JSON header, then the raw little-endian data. safetensors' own writer begins
the data at any multiple of 8; this one begins it on a cache line, where vector loads are fastest.
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

from mtaw_fast.errors import DataError, shown
from mtaw_fast.storage.files import atomic_path
from mtaw_fast.storage.sealed_file import SealedFile, open_sealed

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_MAX_HEADER = 1 << 20
_MAX_AXES = 32
_LINE = 64  # bytes of a cache line


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` to `path` in safetensors format, atomically.

    Every array begins at a multiple of its item size, and of 64 bytes where its size is one. Raises KeyError on a
    dtype that the format has no name for.
    """
    write_joined(path, {name: [array] for name, array in arrays.items()})


def write_joined(path: Path, pieces: Mapping[str, Sequence[np.ndarray]]) -> None:
    """As `write_tensors`, of arrays that lie in pieces, which need not fit in memory together.

    pieces: for every name its array, cut along the first axis; each piece is looked at once.
    """
    text, order = _joined_layout(pieces)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(text)
        for name in order:
            for part in pieces[name]:
                stream.write(np.ascontiguousarray(part).data)


def digest_of_joined(pieces: Mapping[str, Sequence[np.ndarray]]) -> tuple[str, int]:
    """Hex SHA-256 and bytes of the file that `write_joined` would make of them."""
    text, order = _joined_layout(pieces)
    found, size = hashlib.sha256(text), len(text)
    for name in order:
        for part in pieces[name]:
            found.update(np.ascontiguousarray(part).data)
            size += part.nbytes
    return found.hexdigest(), size


def places_in_file(shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> tuple[bytes, dict[str, int], int]:
    """For a file that is written in pieces, what `write_tensors` would write of arrays of these types and shapes.

    Returns the bytes it begins with, where each array's own begin, by name, and the length of the whole.
    """
    text, _, places = _layout(shapes)
    ends = [len(text), *(places[name] + math.prod(shape) * dtype.itemsize for name, (dtype, shape) in shapes.items())]
    return text, places, max(ends)


def _joined_layout(pieces: Mapping[str, Sequence[np.ndarray]]) -> tuple[bytes, list[str]]:
    text, order, _ = _layout({name: (parts[0].dtype, _joined_shape(parts)) for name, parts in pieces.items()})
    return text, order


def _joined_shape(parts: Sequence[np.ndarray]) -> tuple[int, ...]:
    """One piece alone may have no axis."""
    return parts[0].shape if len(parts) == 1 else (sum(map(len, parts)), *parts[0].shape[1:])


def _layout(
    shapes: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
) -> tuple[bytes, list[str], dict[str, int]]:
    """What a file begins with, the order in which arrays of these types and shapes follow, and where each begins."""
    sizes = {name: math.prod(shape) * dtype.itemsize for name, (dtype, shape) in shapes.items()}
    # Sizes divisible by the larger powers of two first: what follows them is as well aligned as it can use.
    order = sorted(sizes, key=lambda name: -(sizes[name] & -sizes[name]))
    header: dict[str, dict[str, Any]] = {}
    end = 0
    for name in order:
        dtype, shape = shapes[name]
        begin, end = end, end + sizes[name]
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _LINE)
    begins = len(text).to_bytes(8, "little") + text
    return begins, order, {name: len(begins) + entry["data_offsets"][0] for name, entry in header.items()}


def map_tensors(
    source: Path | SealedFile, mapping: str | None = None, former: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Every array of a file, as a read-only view of the held or mapped bytes.

    Parameters
    ----------
    source : Path or SealedFile
        The file, or its bytes where `open_sealed` has them already.
    mapping : {'copy', 'map'}, optional
        How a path is mapped; see `sealed_file.open_sealed`.
    former : mapping of str to str, optional
        Names that arrays had in earlier files, and their present names.

    Raises
    ------
    DataError
        Where the file is missing, is no regular file, or is not exactly what its header describes.
    """
    held = open_sealed_tensors(source, mapping=mapping) if isinstance(source, Path) else source
    raw = held.data
    if len(raw) < 8:
        raise _broken(held.path, "shorter than its header")
    length = int.from_bytes(raw[:8].tobytes(), "little")
    header = _header(held.path, raw[8 : 8 + min(length, _MAX_HEADER + 1)].tobytes(), length, len(raw))
    data = raw[8 + length :]
    try:
        return {(former or {}).get(name, name): _view(data, entry) for name, entry in header.items()}
    except _UNFIT as error:
        raise _broken(held.path, shown(error)) from None


def open_sealed_tensors(path: Path, *, size: int | None = None, mapping: str | None = None) -> SealedFile:
    """`open_sealed` for a file of arrays: one that is longer than its header says is refused before it is copied."""

    def check(descriptor: int, length: int) -> None:
        begin = os.pread(descriptor, 8, 0)
        if len(begin) == 8:  # a shorter one is told of where the arrays are asked for
            count = int.from_bytes(begin, "little")
            _header(path, os.pread(descriptor, min(count, _MAX_HEADER + 1), 8), count, length)

    return open_sealed(path, size=size, mapping=mapping, check=check)


_UNFIT = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


def _broken(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is not a whole safetensors file ({reason}); restore it or make it anew")


def _header(path: Path, text: bytes, length: int, size: int) -> dict[str, Any]:
    """The entries of a header `text` of `length` bytes in a file of `size` bytes, which they must fill."""
    if length > min(_MAX_HEADER, size - 8) or len(text) < length:
        raise _broken(path, "its header passes its end")
    try:
        header = json.loads(text)
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
        excess = size - 8 - length - end
    except (*_UNFIT, IndexError, OverflowError) as error:
        raise _broken(path, shown(error)) from None
    if excess > 0:
        raise _broken(path, f"{excess:,} bytes more than its header describes")
    return entries


def _view(data: np.ndarray, entry: Mapping) -> np.ndarray:
    """The array that a header entry describes, as a view of `data` (the bytes after the header)."""
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if not all(isinstance(v, int) and v >= 0 for v in (begin, end, *shape)):
        raise ValueError("negative or fractional sizes")
    if len(shape) > _MAX_AXES:  # the product of very many takes for ever
        raise ValueError("a tensor of very many axes")
    expected = dtype.itemsize
    for extent in shape:
        expected *= extent
    if end > len(data) or end - begin != expected:
        raise ValueError("a tensor passes the end of the file")
    if not expected:
        return np.empty(shape, dtype)
    view = data[begin:end].view(dtype)
    if not view.flags.aligned:  # vector code may not read it
        raise ValueError("a tensor does not begin at a multiple of its item size")
    return view.reshape(shape)
