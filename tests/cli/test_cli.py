"""The command line as a whole: the path from a log to recommendations, the help, misuse as one line."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.cli import main
from tests.support.cli import commands, failure, options


def test_the_whole_path(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["P@20"] > 60  # chance: half of the 40 items
    assert set(result["baselines"]) >= {
        "popularity",
        "own items, recent first",
        "own items, frequent first",
        "co-occurrence + repeats",
    }
    assert result["repeat"]["samples"] + result["non_repeat"]["samples"] == result["samples"]
    low, high = result["intervals"]["P@20"]
    assert low <= result["P@20"] <= high

    assert main(["recommend", f"{work}/bundle", "sku-3é", "sku-4é", "-k", "5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert len(answer["items"]) == 5
    assert not answer["fallback"]
    assert answer["scores"] == sorted(answer["scores"], reverse=True)

    command = ["recommend", f"{work}/bundle", "sku-3é", "sku-4é", "-k", "40", "--reasons"]
    assert main([*command, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    reasons = dict(zip(answer["items"], answer["reasons"], strict=True))
    assert reasons["sku-3é"] == {"kind": "session", "items": []}
    assert reasons["sku-5é"]["kind"] == "together"
    assert reasons["sku-5é"]["items"][0] == "sku-4é"
    assert main(command) == 0
    lines = capsys.readouterr().out
    assert "sku-3é  (in the session)\n" in lines
    assert "sku-5é  (clicked together with sku-4é, sku-3é)\n" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["fly"], "fly"),
        (["train", "only-one"], "BUNDLE"),
        (["train", "{work}/dataset", "{tmp}/b", "--set", "gama=2"], "no setting 'gama'"),
        (["train", "{work}/dataset", "{tmp}/b", "--preset", "none"], "no preset 'none'"),
        (["train", "{work}/dataset", "{tmp}/b", "--device", "tpu9"], "device 'tpu9'"),
        (["train", "{work}/dataset", "{tmp}/b", "--epochs", "many"], "invalid int"),
        (["train", "{work}/dataset", "{tmp}/b", "--budget-minutes", "soon"], "'soon' is not a time"),
        (["train", "{work}/dataset", "{tmp}/b", "--threads", "0"], "'0' is not a number of threads"),
        (["train", "{work}/dataset", "{tmp}/b", "--encoder-threads", "all"], "'all' is not a number of threads"),
        (["serve", "{work}/bundle", "--workers", "two"], "'two' is not a number of workers; write 1, 2, .. or auto"),
        (
            ["prepare", "clicks", "x", "y", "--max-session", "many"],
            "'many' is not a number of clicks; write 500, or none",
        ),
        (["prepare", "xml", "{work}/clicks.csv", "{tmp}/d"], "no format 'xml'"),
        (["prepare", "npz", "{work}", "{tmp}/d", "--gap", "3"], "option gap works only with the format 'clicks'"),
        (["recommend", "{work}/bundle", "a", "-k", "0"], "k"),
        (["recommend", "{work}/bundle", "a", "--index", "hnsw"], "hnsw"),
        (["evaluate", "{work}/bundle", "{work}/dataset", "--split", "future"], "future"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_misuse_is_one_line_and_status_2(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    filled = [part.format(work=work, tmp=tmp_path) for part in arguments]
    assert message in failure(filled, 2, capsys)
    assert not (tmp_path / "b").exists()
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "{tmp}"], "manifest.json does not exist"),
        (["evaluate", "{work}/dataset", "{work}/dataset"], "bundle"),
        (["train", "{tmp}", "{tmp}/b"], "prepare"),
        (["prepare", "clicks", "{tmp}/none.csv", "{tmp}/d"], "none.csv"),
        (["recommend", "{tmp}/none", "a"], "none"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_status_1(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    filled = [part.format(work=work, tmp=tmp_path) for part in arguments]
    assert message in failure(filled, 1, capsys)


def test_every_command_has_help_with_an_example() -> None:
    assert len(commands()) == 21
    for name, parser in commands().items():
        assert f"example:\n  mtaw-fast {name} " in parser.format_help()
    for name, _, action in options():
        assert action.help, f"{name}: {action.dest} has no help"


def test_the_help_lists_the_settings_by_group_and_what_a_preset_changes() -> None:
    text = commands()["train"].format_help()
    assert "\n  model: embedding_dim=" in text
    literal = text.split("changed settings in the preset 'paper-literal':\n")[1]
    assert "dropout=0.2" in literal
    assert "embedding_dim" not in literal


def test_help_shows_every_default_and_every_choice() -> None:
    seen = set()
    for name, command, action in options():
        text = " ".join(command.format_help().split())
        if not action.option_strings:
            continue
        seen.add(name)
        help_text = command._get_formatter()._expand_help(action)
        assert "object at 0x" not in help_text, f"{name} {action.option_strings[0]} shows a default that is none"
        has_default = action.default is not None and action.default is not False  # 0 is a default
        if has_default and action.default not in ([], argparse.SUPPRESS) and name != "prepare":
            assert "default:" in help_text, f"{name} {action.option_strings[0]} hides its default, {action.default}"
        for choice in action.choices or ():
            assert str(choice) in text
    assert seen == commands().keys()


def test_importing_the_package_is_light() -> None:
    """No torch, no onnxruntime, no faiss: a service pays for what it uses."""
    code = "import sys, mtaw_fast; from mtaw_fast import Recommender; print([m for m in sys.modules])"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0].strip("'[ ") for name in completed.stdout.split(",")}
    assert not loaded & {"torch", "onnxruntime", "faiss", "polars", "matplotlib", "rich"}
