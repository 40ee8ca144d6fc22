"""A group by torchrun: the same training as in one process, and nothing is lost when one of it is killed.

`tests.training.group.kills` has more kills, and compares bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from tests.support.training.ring import ring_dataset
from tests.support.training.torchrun import OPTIONS, Started, arguments, losses_of, weights_of

# Two epochs of 50 steps each, dropout included. Losses: relative. Weights: of the largest, or a thousandth of a step.
LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 1e-3 * OPTIONS["lr"]


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_train_as_one(tmp_path: Path) -> None:
    """Rank 1 is killed in the second epoch, and torchrun starts both again."""
    dataset, one, killed = tmp_path / "ring.dataset", tmp_path / "one", tmp_path / "killed"
    ring_dataset().save(dataset)
    run = Started(2, dataset, killed, "paper", restarts=1)
    run.wait_until_printed("search epoch 1:")
    run.kill(rank=1)
    state = run.state()
    assert state is not None
    assert (state["phase"], state["epoch"]) == ("search", 1)
    printed = run.end()
    assert main(arguments(dataset, one, "paper")) == 0

    assert [printed.count(f"search epoch {epoch}:") for epoch in (1, 2)] == [1, 1]
    assert printed.count("1 of 1: search") == 2
    # Rank 0 prints for all.
    lines = [line for line in printed.splitlines() if line]
    assert sum("of 2 (cpu): peak memory" in line for line in lines) == 2
    assert sum(line.startswith("wrote ") for line in lines) == 1

    np.testing.assert_allclose(losses_of(killed), losses_of(one), rtol=LOSS_TOLERANCE)
    expected, got = weights_of(one), weights_of(killed)
    assert list(got) == list(expected)
    for weights, array in expected.items():
        assert np.abs(got[weights] - array).max() <= WEIGHT_TOLERANCE, weights
    metrics, others = Bundle.load(one).metrics, Bundle.load(killed).metrics
    assert others["validation"] == pytest.approx(metrics["validation"], abs=1.0)  # near ties may turn
    assert set(others) == set(metrics)
    assert {path.name.split("-")[0] for path in killed.iterdir()} == {p.name.split("-")[0] for p in one.iterdir()}
