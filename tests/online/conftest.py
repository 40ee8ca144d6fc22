"""A bundle on disk, and recommenders that learn on top of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.online.settings import LearningSettings
from tests.support.online.recommenders import MODEL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Bundle.save(tmp_path / "bundle", MODEL, metrics={}, dataset={"name": "x", "fingerprint": "y"})
    return tmp_path / "bundle"


@pytest.fixture
def learning(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Recommender]]:
    """Makes recommenders that learn in one folder, and ends them."""
    recs: list[Recommender] = []

    def make(**settings: Any) -> Recommender:
        rec = Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", compact=False, **settings))
        recs.append(rec)
        return rec

    yield make
    for rec in recs:
        rec.close()
