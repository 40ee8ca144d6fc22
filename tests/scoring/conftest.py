"""What the tests of the scoring share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.scoring.command import ROWS
from tests.support.scoring.inputs import write_sessions


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "bundle"
    save_parts(folder, **bundle_parts(), **memory_parts())
    return folder


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sessions(tmp_path_factory.mktemp("score") / "sessions.parquet", ROWS, group=70)
