"""`mtaw-fast report`: the page next to the bundle, and misuse as one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtaw_fast import train
from mtaw_fast.cli import main
from tests.support.report import read, typed_dataset
from tests.support.training.ring import memory_config


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(bundle, data set)."""
    folder = tmp_path_factory.mktemp("report")
    typed_dataset().save(folder / "set")
    config = memory_config().replace(epochs=1, ranker_epochs=1)
    train(folder / "set", folder / "bundle", config, refit=False)
    return folder / "bundle", folder / "set"


def test_the_command_writes_next_to_the_bundle_and_over_an_earlier_report(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        capsys.readouterr()
        assert main(["report", str(made[0]), "--json", "--sessions", "0"]) == 0
        reported = json.loads(capsys.readouterr().out)
        assert Path(reported["report"]) == made[0].with_name("bundle.html")
    _, page = read(made[0].with_name("bundle.html"))
    assert "This bundle keeps no sessions" in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{set}/page.html/x.html"], "is not a folder"),
        (["{folder}"], "is a folder; name the HTML file"),
        (["{set}/manifest.json"], "is not a report"),
        (["--weights", "cart=2"], "weights need a data set"),
        (["--sessions", "-1"], "sessions must be at least 0"),
        (["--dataset", "{set}", "--weights", "buy=2"], "there is no type 'buy'"),
    ],
)
def test_misuse_is_one_line(
    made: tuple[Path, Path], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (made[1] / "manifest.json").read_bytes()
    formatted = [text.format(set=made[1], folder=made[1].parent) for text in arguments]
    capsys.readouterr()
    assert main(["report", str(made[0]), *formatted]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (made[1] / "manifest.json").read_bytes() == before
