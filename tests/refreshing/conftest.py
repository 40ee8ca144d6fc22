"""A shop with a few days and a first bundle, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast import refresh
from tests.support.shop import now_after, write_config, write_day
from tests.support.training.curves import undrawn


@pytest.fixture(scope="package", autouse=True)
def undrawn_curves() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        yield


@pytest.fixture(scope="package")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days 0 to 3 are in the first bundle; day 4 is there."""
    folder = tmp_path_factory.mktemp("shop")
    for day in range(5):
        write_day(folder, day)
    result = refresh(write_config(folder), now=now_after(3))
    assert (result.outcome, result.bundle) == ("promoted", "2026-03-05.bundle")
    return folder


@pytest.fixture
def shop(begun: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "shop", symlinks=True))
