"""Named arrays on disk: written by safetensors, read back as read-only memory maps.

safetensors' own numpy reader copies every tensor; mapping the file instead lets worker processes
share one copy of a catalog in the page cache. The layout is the public safetensors format:
8 bytes little-endian header length, a JSON header, then the raw little-endian data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mtaw_fast.errors import DataError
from mtaw_fast.files import atomic_path

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
_MAX_HEADER = 1 << 20


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` to `path` in safetensors format, atomically."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary)
        except Exception as error:
            # safetensors raises its own SafetensorError("... I/O error: ...") where the disk is full.
            if isinstance(error, OSError) or "I/O" in str(error) or "os error" in str(error):
                raise OSError(f"{error}") from None
            raise


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
        raise broken(f"{type(error).__name__}: {error}") from None


def _view(data: np.ndarray, entry: Mapping) -> np.ndarray:
    """The array that a header entry describes, as a view of `data` (the bytes after the header)."""
    begin, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    if not all(isinstance(v, int) and v >= 0 for v in (begin, end, *shape)):
        raise ValueError("negative or fractional sizes")
    expected = dtype.itemsize
    for extent in shape:
        expected *= extent
    if end > len(data) or end - begin != expected:
        raise ValueError("a tensor passes the end of the file")
    # frombuffer refuses an unaligned view silently later; safetensors aligns the header to 8 bytes.
    return data[begin:end].view(dtype).reshape(shape) if expected else np.empty(shape, dtype)
