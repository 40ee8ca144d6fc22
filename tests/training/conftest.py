"""Fixtures of the ring data set, and a training on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from tests.support.training.curves import undrawn
from tests.support.training.ring import memory_config, ring_dataset, small_config

if TYPE_CHECKING:
    from mtaw_fast.training import TrainedModel


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Train in one thread, of whose number histories tell; test_threads.py has several.

    Small trainings are no faster with more, and far slower where other tests run.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def undrawn_curves() -> Iterator[None]:
    """Draw no curves; trainings of fixtures that tests share draw theirs."""
    with pytest.MonkeyPatch.context() as patch:  # of its own: tests may undo theirs before they end
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        yield


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
