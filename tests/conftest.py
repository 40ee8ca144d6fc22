"""What holds for all tests."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a `long` test that does not say which test of `make test` would see its defect."""
    for item in items:
        for mark in item.iter_markers("long"):
            if set(mark.kwargs) != {"caught"} or mark.args:
                raise pytest.UsageError(f'{item.nodeid}: mark it long(caught="where its defect is still caught")')
