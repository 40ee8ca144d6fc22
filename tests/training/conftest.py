"""Fixtures of the ring data set."""

from __future__ import annotations

import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from tests.support.training.ring import memory_config, ring_dataset, small_config


@pytest.fixture
def ring() -> Dataset:
    return ring_dataset()


@pytest.fixture
def small() -> Config:
    return small_config()


@pytest.fixture
def remembering() -> Config:
    return memory_config()
