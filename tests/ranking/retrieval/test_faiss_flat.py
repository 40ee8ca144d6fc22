"""The exact index of FAISS: the OpenMP setting of a thread."""

from __future__ import annotations

import pytest

from mtaw_fast.ranking.retrieval import make_index
from tests.support.ranking.catalogs import unit_rows


def test_faiss_flat_restores_the_openmp_setting_of_the_thread() -> None:
    faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        make_index("faiss-flat", unit_rows(50, 4)).search(unit_rows(2, 4), 3)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)
