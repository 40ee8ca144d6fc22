"""What the tests of the rankers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.recommender import Recommender
from tests.support.ranking.native_bundles import saved


@pytest.fixture(scope="module", params=["text-ids", "int-ids", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("native") / "bundle", request.param)


@pytest.fixture(scope="module")
def native(folder: Path) -> Recommender:
    return Recommender.load(folder, encoder="native", index="native")
