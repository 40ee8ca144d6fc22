"""`mtaw-fast train` and `tune`: what they refuse before they train, threads, plans, the printed command."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast import Dataset
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.cli.train import _processor_time, _report
from mtaw_fast.data.synthetic import generate
from mtaw_fast.errors import UsageError
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.tuning import BY
from tests.support.cli import TINY, failure


@pytest.mark.parametrize("target", ["/proc/none/bundle", "/proc/bundle", "/sys/kernel/bundle"])
def test_train_refuses_a_folder_that_cannot_be_written_before_it_trains(
    work: Path, capsys: pytest.CaptureFixture[str], target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtaw_fast.training.train", lambda *_, **__: pytest.fail("it trained"))
    assert "cannot write into /" in failure(["train", f"{work}/dataset", target], 1, capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], (None, 1)), (["--threads", "auto"], (None, 1)), (["--threads", "3", "--encoder-threads", "2"], (3, 2)),
     (["--encoder-threads", "auto"], (None, 5))],
    ids=["nothing said", "auto", "numbers", "encoder auto"],
)  # fmt: skip
def test_train_hands_on_how_many_threads_it_may_take(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: tuple[int | None, int]
) -> None:
    def fake_train(*_: object, threads: int | None, encoder_threads: int, **__: object) -> None:
        raise UsageError(f"asked for {threads}, {encoder_threads}")

    monkeypatch.setattr("mtaw_fast.training.train", fake_train)
    monkeypatch.setattr("mtaw_fast.cli.train.usable_cpus", lambda: 5)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    failed: list[str] = []
    monkeypatch.setattr("mtaw_fast.cli._fail", lambda message, *_: failed.append(message) or 2)
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *options]) == 2
    assert failed == [f"asked for {expected[0]}, {expected[1]}"]
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_a_plan_is_printed_and_nothing_is_trained(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table_memory = pytest.importorskip("mtaw_fast.training.memory_tables")
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("plan: full softmax (always for a log of this size)")
    assert "2 epochs over" in out or "1 epoch over" in out
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["softmax"], plan["seconds"]) == ("full", None)
    assert [phase["name"] for phase in plan["phases"]][-1] == "refit"
    limits: list[int | None] = []
    real = table_memory.TableMemory
    monkeypatch.setattr(table_memory, "TableMemory", lambda limit, folder: limits.append(limit) or real(limit, folder))
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan", "--table-memory", "2.5"]) == 0
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan"]) == 0
    assert limits == [2_500_000_000, None]
    capsys.readouterr()
    assert main(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY, "--plan", "--resume"]) == 2
    assert "works for a new run only" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_training_waits_passively_unless_told_otherwise() -> None:
    """OpenMP reads the setting when PyTorch is loaded, so that must come after."""
    code = (
        "import os, sys\nfrom mtaw_fast.cli import main, train\nassert 'torch' not in sys.modules\n"
        "train.require = lambda *_: print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules) or sys.exit(0)\n"
        "main(['train', 'a', 'b'])"
    )
    for policy, expected in ((None, "PASSIVE False\n"), ("ACTIVE", "ACTIVE False\n")):
        environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
        environment |= {} if policy is None else {"OMP_WAIT_POLICY": policy}
        completed = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
        )
        assert completed.stdout == expected


def test_train_refuses_an_existing_bundle(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--overwrite" in failure(["train", f"{work}/dataset", f"{work}/bundle"], 2, capsys)


def test_two_trainings_cannot_share_a_bundle(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with folder_lock(tmp_path / "b.training", UsageError):
        error = failure(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY], 2, capsys)
    assert "being written by another process" in error
    assert list(tmp_path.iterdir()) == []


def test_a_training_spares_a_data_set_in_its_run_folder(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["cp", "-r", f"{work}/dataset", f"{tmp_path}/b.training"], check=True)
    before = {path.name for path in (tmp_path / "b.training").iterdir()}
    assert "which no training wrote" in failure(["train", f"{work}/dataset", f"{tmp_path}/b", *TINY], 2, capsys)
    assert {path.name for path in (tmp_path / "b.training").iterdir()} == before


def test_processor_time_says_whose_it_is() -> None:
    spent = {"search": 60.0, "refit": 60.0}
    assert _processor_time(spent, [], 0, False) == "processor time: 120 s"
    assert _processor_time(spent, [], 4, True) == (
        "processor time: 120 s of the first of 4 processes, with what was saved before the resume"
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(60, 900, seed=3)


def test_a_training_of_an_old_log_says_how_old_it_is(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = argparse.Namespace(json=False, bundle=work / "bundle", resume=False)
    for held_out in (0, 10):
        _report(arguments, Bundle.load(work / "bundle"), None, [], [], held_out)
        out, err = capsys.readouterr()
        assert "\nclicks until: 2023-11-" in out
        assert err.startswith("warning: the learned clicks end 2023-11-")
        assert ("prepare --test-days 0" in err) == bool(held_out)


def test_the_command_tunes_and_its_answer_trains(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two real trials, then the printed command word for word."""
    dataset.save(tmp_path / "a set")
    settings = [part for name in ("embedding_dim=8", "epochs=1", "validation_fraction=0.1") for part in ("--set", name)]
    assert main(["tune", f"{tmp_path}/a set", "--preset", "paper", *settings, "--trials", "2"]) == 0
    captured = capsys.readouterr()
    assert [line.split(":")[0] for line in captured.err.splitlines()] == ["trial 0", "trial 1"]
    objective, chosen, command = captured.out.splitlines()
    assert objective.startswith("objective: MRR@20 on ")
    words = shlex.split(command.replace("BUNDLE", f"'{tmp_path}/bundle'"))
    assert words[:2] == ["mtaw-fast", "train"]
    assert main([*words[1:], "--json"]) == 0
    value = json.loads(capsys.readouterr().out)["validation"][BY]
    assert f"{BY} {value:.2f}" in chosen.partition("(")[0]
    assert not list(tmp_path.glob("*tune*"))
