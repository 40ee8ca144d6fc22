"""`mtaw-fast tune`: the command that it prints trains the best settings."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from mtaw_fast import Dataset
from mtaw_fast.cli import main
from mtaw_fast.data.synthetic import generate
from mtaw_fast.tuning import BY


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(60, 900, seed=3)


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
