"""The headers of the native sources, and their folders, include each other without a cycle."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.native.builds import NATIVE, included_by

HEADERS = sorted(NATIVE.rglob("*.hpp"))


def test_headers_have_no_include_cycle() -> None:
    assert len(HEADERS) > 50
    assert_no_cycle({header: set(included_by(header)) for header in HEADERS})


def test_folders_have_no_include_cycle() -> None:
    graph: dict[Path, set[Path]] = {}
    for file in [*HEADERS, *NATIVE.rglob("*.cpp")]:
        # The files of the top folder are each a unit of their own.
        folders = {header.parent for header in included_by(file)} - {file.parent, NATIVE}
        if file.parent != NATIVE:
            graph.setdefault(file.parent, set()).update(folders)
    assert len(graph) > 5
    assert_no_cycle(graph)


def assert_no_cycle(graph: dict[Path, set[Path]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of includes: {' -> '.join(str(path.relative_to(NATIVE)) for path in error.args[1])}")
