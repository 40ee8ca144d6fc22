"""Features of candidates in a file that a process maps without keeping it in its memory.

Axes: R rows, F features.
"""

from __future__ import annotations

import mmap
from typing import IO

import numpy as np

_MAPPED = 16 << 20  # bytes read, after which pages are left to the system's cache: of scattered rows ten times as many


class FeatureFile:
    """float16[R, F], one row after the other in a file.

    A million ranker_dataset take tens of gigabytes, read in a random order: pages that stayed mapped would count as this
    process's memory until all of the file did.

    Parameters
    ----------
    file : binary file
        Open and flushed; the map outlives it.
    width : int
        F.
    """

    def __init__(self, file: IO[bytes], width: int) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(self._map, dtype=np.float16).reshape(-1, width)
        self._read = 0

    def rows(self, places: np.ndarray) -> np.ndarray:
        """float16[n, F]: a copy of the rows int64[n]."""
        found = self._values[places]
        self._read += found.nbytes
        if self._read > _MAPPED:
            self._map.madvise(mmap.MADV_DONTNEED)  # of a file's map: drops pages, loses nothing
            self._read = 0
        return found
