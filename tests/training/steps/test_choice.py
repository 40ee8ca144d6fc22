"""The choice of the training step by device and settings."""

from __future__ import annotations

import logging

import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import Stepper
from tests.support.training.steps import still_config


def test_the_stepper_is_chosen_by_device_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    config, sessions = still_config(), Sessions.from_lists([[1, 2]])
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        assert isinstance(make_stepper(MTAW(config, 9), config, sessions), Stepper)
    assert "training step: eager (the model is on cpu, and CUDA graphs need a GPU)" in caplog.text
    assert isinstance(make_stepper(MTAW(config, 9), config.replace(train_step="eager"), sessions), Stepper)
    with pytest.raises(
        UsageError, match=r"train_step=cuda-graph does not work: the model is on cpu.*choose auto or eager"
    ):
        make_stepper(MTAW(config, 9), config.replace(train_step="cuda-graph"), sessions)
    with pytest.raises(UsageError, match="train_step='fast' is not one of"):
        config.replace(train_step="fast")
