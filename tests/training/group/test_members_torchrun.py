"""Groups by torchrun: the same training for every number of processes, and nothing is lost when one is killed.

The short form is one group of two, one of which is killed, against this process alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from tests.support.training.ring import ring_dataset
from tests.support.training.torchrun import OPTIONS, Started, arguments, losses_of, weights_of

pytestmark = pytest.mark.slow

# Two epochs of 50 steps each, dropout included. Losses: relative. Weights: of the largest, or a thousandth of a step.
LOSS_TOLERANCE = 1e-5
WEIGHT_TOLERANCE = 1e-3 * OPTIONS["lr"]


@dataclass(frozen=True)
class Runs:
    """Bundles of the same training, and what the group of two printed."""

    one: Path
    two: Path
    four: Path
    killed: Path
    resumed: Path
    printed: str
    printed_when_killed: str


def trained_alone(dataset: Path, bundle: Path) -> None:
    assert main(arguments(dataset, bundle, "paper")) == 0


def killed_in_the_second_epoch(dataset: Path, bundle: Path) -> str:
    """What a group of two prints, of which rank 1 is killed, and which torchrun starts again."""
    killed = Started(2, dataset, bundle, "paper", restarts=1)
    killed.wait_until_printed("search epoch 1:")
    killed.kill(rank=1)
    state = killed.state()
    assert state is not None
    assert (state["phase"], state["epoch"]) == ("search", 1)
    return killed.end()


def assert_the_same_training(one: Path, other: Path) -> None:
    np.testing.assert_allclose(losses_of(other), losses_of(one), rtol=LOSS_TOLERANCE)
    expected, got = weights_of(one), weights_of(other)
    assert list(got) == list(expected)
    for weights, array in expected.items():
        assert np.abs(got[weights] - array).max() <= WEIGHT_TOLERANCE, weights
    metrics, others = Bundle.load(one).metrics, Bundle.load(other).metrics
    assert others["validation"] == pytest.approx(metrics["validation"], abs=1.0)  # near ties may turn
    assert set(others) == set(metrics)
    assert {path.name.split("-")[0] for path in other.iterdir()} == {p.name.split("-")[0] for p in one.iterdir()}


def assert_restarted_once(printed: str) -> None:
    assert [printed.count(f"search epoch {epoch}:") for epoch in (1, 2)] == [1, 1]
    assert printed.count("1 of 1: search") == 2


def assert_rank_0_prints_for_all(printed: str) -> None:
    lines = [line for line in printed.splitlines() if line]
    assert sum("of 2 (cpu): peak memory" in line for line in lines) == 2
    assert sum(line.startswith("wrote ") for line in lines) == 1


def test_two_processes_of_which_one_is_killed_train_as_one(tmp_path: Path) -> None:
    dataset = tmp_path / "ring.dataset"
    ring_dataset().save(dataset)
    printed = killed_in_the_second_epoch(dataset, tmp_path / "killed")
    trained_alone(dataset, tmp_path / "one")
    assert_restarted_once(printed)
    assert_rank_0_prints_for_all(printed)
    assert_the_same_training(tmp_path / "one", tmp_path / "killed")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("groups")
    dataset = folder / "ring.dataset"
    ring_dataset().save(dataset)

    four = Started(4, dataset, folder / "four", "paper")
    four.wait_for("search", 1)
    four.copy_run(folder / "resumed")
    two = Started(2, dataset, folder / "two", "paper")
    trained_alone(dataset, folder / "one")
    assert main([*arguments(dataset, folder / "resumed", "paper"), "--resume"]) == 0
    four.end()
    printed = two.end()

    printed_when_killed = killed_in_the_second_epoch(dataset, folder / "killed")
    return Runs(
        **{name: folder / name for name in ("one", "two", "four", "killed", "resumed")},
        printed=printed,
        printed_when_killed=printed_when_killed,
    )


@pytest.mark.long(caught="the short form above; test_checkpoints.py and test_step.py, for more processes by threads")
@pytest.mark.parametrize("name", ["two", "four", "resumed"])
def test_every_number_of_processes_trains_the_same(runs: Runs, name: str) -> None:
    assert_the_same_training(runs.one, getattr(runs, name))


@pytest.mark.long(caught="the short form above, within a tolerance; the bits by resumed trainings of one process")
def test_a_killed_process_costs_no_bit(runs: Runs) -> None:
    assert_restarted_once(runs.printed_when_killed)
    assert losses_of(runs.killed) == losses_of(runs.two)
    expected, got = weights_of(runs.two), weights_of(runs.killed)
    assert all(np.array_equal(got[name], array) for name, array in expected.items())


@pytest.mark.long(caught="the short form above, for a group that is killed")
def test_rank_0_prints_for_all(runs: Runs) -> None:
    assert_rank_0_prints_for_all(runs.printed)
    lines = [line for line in runs.printed.splitlines() if line]
    assert len(lines) == len(set(lines))
