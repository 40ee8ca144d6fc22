"""What the tests of the export share: a bundle with graphs, and one without an index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from tests.support.export.bundles import MAX_LEN, SETTINGS, N
from tests.support.random_bundle import save_random

if TYPE_CHECKING:
    from mtaw_fast.export.onnx_model import ExportedGraphs


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Build the tests' small indexes in one thread: FAISS's threads wait for one another where other tests run."""
    try:
        import faiss
    except ImportError:
        yield
        return
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(scope="package")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, ExportedGraphs]:
    """With recent clicks in the query; ranking/encoders/test_encoders.py tests the graph without them."""
    from mtaw_fast.export.onnx_model import export_onnx

    folder = tmp_path_factory.mktemp("onnx") / "bundle"
    save_random(folder, **SETTINGS, recent_weight=2.0, recent_decay=0.7)
    result = export_onnx(folder)
    return Bundle.load(folder), result


@pytest.fixture
def bundle(exported: tuple[Bundle, ExportedGraphs]) -> Bundle:
    return exported[0]


@pytest.fixture
def sessions() -> Sessions:
    rng = np.random.default_rng(2)
    lengths = [1, 3, 40, MAX_LEN, 2, MAX_LEN + 1, 9, 10, 1, MAX_LEN - 1]
    return Sessions.from_lists([rng.integers(0, N, length) for length in lengths])
