"""Named arrays on disk in the safetensors format, read back as read-only memory maps.

safetensors' own numpy reader copies every tensor; mapping the file instead lets worker processes
share one copy of a catalog in the page cache. The layout is the public safetensors format:
8 bytes little-endian header length, a JSON header, then the raw little-endian data. safetensors' own writer begins
the data at any multiple of 8; this one begins it on a cache line, where vector loads are fastest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mtaw_fast.errors import DataError, shown
from mtaw_fast.storage.files import atomic_path

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
    # Sizes divisible by the larger powers of two first: what follows them is as well aligned as it can use.
    placed = sorted(arrays.items(), key=lambda pair: -(pair[1].nbytes & -pair[1].nbytes))
    header, end = {}, 0
    for name, array in placed:
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _LINE)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for _, array in placed:
            stream.write(np.ascontiguousarray(array).data)


def map_tensors(path: Path) -> dict[str, np.ndarray]:
    """Map `path` read-only; returns every array as a view of the mapping.

    Raises DataError where the file is missing, truncated or malformed.
    """

    def broken(reason: str) -> DataError:
        return DataError(f"{path} is not a whole safetensors file ({reason}); restore it or make it anew")

    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; restore it or make it anew") from None
    if size < 8:
        raise broken("shorter than its header")
    try:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
    except OSError as error:  # a folder, or a file that may not be read
        raise DataError(f"cannot read {path}: {error.strerror}; restore it or make it anew") from None
    header_length = int.from_bytes(raw[:8].tobytes(), "little")
    if header_length > min(_MAX_HEADER, size - 8):
        raise broken("its header passes its end")
    try:
        header = json.loads(raw[8 : 8 + header_length].tobytes())
        entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
        data = np.asarray(raw[8 + header_length :])
        return {name: _view(data, entry) for name, entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise broken(shown(error)) from None


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
