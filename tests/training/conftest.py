"""Fixtures of the ring data set, and a training on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from tests.support.training.ring import memory_config, ring_dataset, small_config

if TYPE_CHECKING:
    from mtaw_fast.training import TrainedModel


@pytest.fixture
def ring() -> Dataset:
    return ring_dataset()


@pytest.fixture
def small() -> Config:
    return small_config()


@pytest.fixture
def remembering() -> Config:
    return memory_config()


@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A training without an interruption."""
    from mtaw_fast.training import train

    return train(ring_dataset(), small_config(), tmp_path_factory.mktemp("whole"))
