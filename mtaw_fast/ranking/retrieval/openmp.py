"""FAISS's threads in a service: a search runs on the thread that asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import faiss


@contextmanager
def one_thread() -> Iterator[None]:
    """Search on the calling thread alone, then give it its OpenMP setting back.

    Waking a second thread for one query costs more than the scan. omp_set_num_threads acts on the
    calling thread (each has its own setting in libgomp), so it is set around every search, not once at
    load, and other users of OpenMP in the process keep theirs.
    """
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
