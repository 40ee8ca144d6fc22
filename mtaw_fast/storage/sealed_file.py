"""Sealed files: copies of files in memory that cannot change, shared by the processes of a service.

`kernels/native/bundle/sealed.hpp` says how they are made and found.

    MTAW_MAPPING=map    maps the files themselves instead; nobody may write into them then

A copy takes the file's size in memory, once for all workers. Unlike a mapped file it cannot be dropped and read again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.kernels.native import _native
from mtaw_fast.system import host

MAPPINGS = ("copy", "map")
VARIABLE = "MTAW_MAPPING"


@dataclass(frozen=True, slots=True, eq=False)
class SealedFile:
    """The bytes of a file as they were when it was opened.

    path: the file, for messages. data: uint8[size], read-only. readable: a path to these bytes as long as `data`
    exists, for a library that opens files itself.
    """

    path: Path
    data: np.ndarray
    readable: Path


def open_sealed(path: Path, mapping: str | None = None) -> SealedFile:
    """Open a file so that its bytes cannot change while they are used.

    Parameters
    ----------
    path : Path
        A regular file.
    mapping : {'copy', 'map'}, optional
        A sealed copy, or the file itself mapped. The default is MTAW_MAPPING, or 'copy'.

    Returns
    -------
    SealedFile
        Its bytes, unchanged as long as any of their arrays exists; with 'map' only if the file does not change.

    Raises
    ------
    DataError
        If the file is missing, is not a regular file, changes while it is copied, or there is not
        enough memory for the copy.
    UsageError
        On another mapping.
    """
    data, descriptor = _native.open_file(os.fsencode(path), mapping_of(mapping), open_for_reading)
    return SealedFile(path, data, path if descriptor < 0 else Path(f"/proc/self/fd/{descriptor}"))


def mapping_of(mapping: str | None) -> str:
    """Return `mapping`, or by default MTAW_MAPPING, or 'copy'. Raises UsageError unless it is one of MAPPINGS."""
    value = mapping if mapping is not None else os.environ.get(VARIABLE) or MAPPINGS[0]
    if value not in MAPPINGS:
        name = "mapping" if mapping is not None else VARIABLE
        raise UsageError(f"{name}={shown(value)} is not a mapping; choose one of {', '.join(MAPPINGS)}")
    return value


def open_for_reading(path: str, flags: int) -> int:
    """Open a file for the native reader, which closes it."""
    return host.open_file(Path(path), flags)
