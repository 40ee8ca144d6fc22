"""Validation by several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.encoder.validation import validation_metrics
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.group.validation import group_metrics
from tests.support.training.group_threads import in_threads, shard_stepper
from tests.support.training.ring import ring_sessions
from tests.support.training.steps import new_model, still_config

COUNTS = np.array([0.0, 1.0, 3.0], dtype=np.float32)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_validation_is_that_of_one_process(world: int) -> None:
    config, sessions = still_config(recent_weight=2.0), ring_sessions(50, seed=6)
    types = np.random.default_rng(3).integers(0, 3, sessions.n_clicks).astype(np.uint8)
    typed = Sessions(sessions.items, sessions.offsets, None, types)
    model = new_model(config)
    for weights in (None, COUNTS):
        expected = validation_metrics(model, typed, 1, weights)

        def work(process_group: ProcessGroup, weights: Any = weights) -> dict[str, float]:
            stepper = shard_stepper(config, model, process_group)
            return group_metrics(stepper.model, stepper.shards, process_group, typed, 1, weights)

        for got in in_threads(world, work):
            assert got == pytest.approx(expected, rel=1e-9)
