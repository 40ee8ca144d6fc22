"""Groups by torchrun: the same training for every number of processes, and nothing is lost when one is killed."""

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("groups")
    dataset = folder / "ring.dataset"
    ring_dataset().save(dataset)

    four = Started(4, dataset, folder / "four", "paper")
    four.wait_for("search", 1)
    four.copy_run(folder / "resumed")
    two = Started(2, dataset, folder / "two", "paper")
    assert main(arguments(dataset, folder / "one", "paper")) == 0
    assert main([*arguments(dataset, folder / "resumed", "paper"), "--resume"]) == 0
    four.end()
    printed = two.end()

    killed = Started(2, dataset, folder / "killed", "paper", restarts=1)
    killed.wait_until_printed("search epoch 1:")
    killed.kill(rank=1)
    state = killed.state()
    assert state is not None
    assert (state["phase"], state["epoch"]) == ("search", 1)  # in the second epoch
    printed_when_killed = killed.end()
    return Runs(
        **{name: folder / name for name in ("one", "two", "four", "killed", "resumed")},
        printed=printed,
        printed_when_killed=printed_when_killed,
    )


@pytest.mark.parametrize("name", ["two", "four", "resumed"])
def test_every_number_of_processes_trains_the_same(runs: Runs, name: str) -> None:
    bundle = getattr(runs, name)
    np.testing.assert_allclose(losses_of(bundle), losses_of(runs.one), rtol=LOSS_TOLERANCE)
    expected, got = weights_of(runs.one), weights_of(bundle)
    assert list(got) == list(expected)
    for weights, array in expected.items():
        assert np.abs(got[weights] - array).max() <= WEIGHT_TOLERANCE, weights
    one, other = Bundle.load(runs.one), Bundle.load(bundle)
    assert other.metrics["validation"] == pytest.approx(one.metrics["validation"], abs=1.0)  # near ties may turn
    assert set(other.metrics) == set(one.metrics)
    assert {path.name.split("-")[0] for path in bundle.iterdir()} == {p.name.split("-")[0] for p in runs.one.iterdir()}


def test_a_killed_process_costs_no_bit(runs: Runs) -> None:
    assert [runs.printed_when_killed.count(f"search epoch {epoch}:") for epoch in (1, 2)] == [1, 1]
    assert runs.printed_when_killed.count("1 of 1: search") == 2  # it was restarted
    assert losses_of(runs.killed) == losses_of(runs.two)
    expected, got = weights_of(runs.two), weights_of(runs.killed)
    assert all(np.array_equal(got[name], array) for name, array in expected.items())


def test_rank_0_prints_for_all(runs: Runs) -> None:
    lines = [line for line in runs.printed.splitlines() if line]
    assert len(lines) == len(set(lines))
    assert sum("of 2 (cpu): peak memory" in line for line in lines) == 2
    assert sum(line.startswith("wrote ") for line in lines) == 1
