"""What holds for all tests."""

from __future__ import annotations

import os
from collections import Counter

import pytest

# Before PyTorch and FAISS are imported: threads of theirs that wait take the cores of the other process's tests.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first, so that no process ends with a long one alone, and check the marks.

    A `long` test says which test of `make test` would see its defect.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])
    for item in items:
        for mark in item.iter_markers("long"):
            if set(mark.kwargs) != {"caught"} or mark.args:
                raise pytest.UsageError(f'{item.nodeid}: mark it long(caught="where its defect is still caught")')
