"""A group of one in this process, a group of two by torchrun of which one is killed, and all errors."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from mtaw_fast import train
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.config import Config
from mtaw_fast.errors import UsageError
from mtaw_fast.training.group import Group, Peak, joined, members
from mtaw_fast.training.group.members import device_of_rank
from mtaw_fast.training.group.runner import check_settings
from tests.support.training.ring import memory_config, ring_dataset
from tests.support.training.torchrun import OPTIONS, Started, arguments, losses_of, weights_of


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torchrun's variables of a group of one, whose store this process opens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ring") / "ring.dataset"
    ring_dataset().save(folder)
    return folder


@pytest.mark.usefixtures("alone")
def test_a_group_trains_a_model_with_a_memory(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ["--epochs", "1", "--set", "ranker_epochs=1", "--json"]
    assert main([*arguments(dataset, tmp_path / "group", "full"), *short]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [(peak["rank"], peak["device"]) for peak in record["processes"]] == [(0, "cpu")]
    assert 50e6 < record["processes"][0]["memory"] < 50e9
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name)
    assert main([*arguments(dataset, tmp_path / "one", "full"), *short]) == 0
    np.testing.assert_allclose(losses_of(tmp_path / "group"), losses_of(tmp_path / "one"), rtol=1e-4)
    expected = weights_of(tmp_path / "one")
    for name, array in weights_of(tmp_path / "group").items():
        assert np.abs(array - expected[name]).max() <= 1e-4, name
    kinds = [sorted(path.name.split("-")[0] for path in (tmp_path / name).iterdir()) for name in ("group", "one")]
    assert kinds[0] == kinds[1]


@pytest.mark.usefixtures("alone")
def test_from_python(dataset: Path, tmp_path: Path) -> None:
    config = memory_config().replace(enabled=False, epochs=1)
    with joined("cpu") as group:
        assert (group.rank, group.world, group.leads, str(group.device)) == (0, 1, True, "cpu")
        bundle = train(dataset, tmp_path / "bundle", config, refit=False, group=group)
        with pytest.raises(UsageError, match="has nobody to follow"):
            group.follow(dataset)
    assert bundle.metrics["best_epoch"] == 1
    refused = config.replace(train_step="cuda-graph")
    with pytest.raises(UsageError, match="train_step=cuda-graph"), joined("cpu") as group:
        train(dataset, tmp_path / "never", refused, group=group)
    assert not (tmp_path / "never").exists()
    with joined("cpu") as group:  # again, in the same process
        train(dataset, tmp_path / "again", config, refit=False, group=group)
    assert losses_of(tmp_path / "again") == losses_of(tmp_path / "bundle")
    assert [peak.rank for peak in group.finish()] == [0]


def test_devices_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(device_of_rank("cpu", 3)) == "cpu"
    with pytest.raises(UsageError, match="write cuda, cpu or auto"):
        device_of_rank("cuda:1", 0)
    for cards in (0, 2):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cards=cards: cards > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda cards=cards: cards)
        with pytest.raises(UsageError, match=f"local rank 2 has no GPU of its own, there are {cards}"):
            device_of_rank("cuda", 2)
    devices: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    assert [str(device_of_rank(name, rank)) for name, rank in (("cuda", 0), ("auto", 1))] == ["cuda:0", "cuda:1"]
    assert devices == [0, 1]


def test_a_peak_is_one_line() -> None:
    assert Peak(1, "cpu", 419_000_000, None).describe(2) == "process 1 of 2 (cpu): peak memory 419 MB"
    reported = Peak(0, "cuda:0", 2_000_000_000, 28_800_000_000).describe(8)
    assert reported == "process 0 of 8 (cuda:0): peak memory 2,000 MB, 28,800 MB of its GPU"


def test_one_process_imports_nothing_of_a_group() -> None:
    code = (
        "import sys, mtaw_fast.cli, mtaw_fast.workflow, mtaw_fast.training\n"
        "print([name for name in sys.modules if name.startswith('mtaw_fast.training.group')])\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("changes", "n_items", "said"),
    [
        ({"train_step": "cuda-graph"}, 100, "train_step=cuda-graph"),
        ({"negative_term": True}, 100, "negative_term=true"),
        ({"softmax": "sampled"}, 100, "softmax=sampled"),
        ({"loss_backend": "native"}, 100, "loss_backend=native"),
        ({"batch_prefixes": 3}, 100, "batch_prefixes=3 is below the 4 processes"),
        ({}, 3, "a catalog of 3 items is too small for 4 processes"),
    ],
    ids=str,
)
def test_what_a_group_does_not_support(changes: dict, n_items: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_settings(Config.of(**changes), n_items, 4)


def group_of(rank: int, world: int, restarts: int = 0, name: str = "a") -> Group:
    launch = members.Launch(rank, world, rank, "node0", 1, True, restarts, name)
    return Group(launch, members.ProcessGroup(rank, world, torch.device("cpu"), None, None))  # type: ignore[arg-type]


def test_a_restart_resumes_what_its_own_launch_began(tmp_path: Path) -> None:
    assert not group_of(0, 1, restarts=1).resumes(tmp_path)  # killed before it had opened the run
    group_of(0, 1).mark(tmp_path)
    assert group_of(0, 1, restarts=1).resumes(tmp_path)
    assert not group_of(0, 1).resumes(tmp_path)
    assert not group_of(0, 1, restarts=1, name="b").resumes(tmp_path)


def test_who_cannot_join_or_lead(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="this process is alone; start a group with 'torchrun"), joined():
        pass
    with pytest.raises(UsageError, match=r"call group\.follow"):
        train("data", "bundle", group=group_of(1, 2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments(dataset, tmp_path / "bundle", "paper")) == 2
    error = capsys.readouterr().err
    assert "not $RANK" in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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
