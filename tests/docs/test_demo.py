"""`make demo`: its commands parse, its summary reads what the commands print, and pip's progress is shown."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mtaw_fast.cli import _parser
from tests.docs.pages import ROOT

TABLE = """\
clicks, test: encoder native, index native
|                           | P@10                 | MRR@10               | P@20                 | P@20 repeat (1) |
| ---                       | ---                  | ---                  | ---                  | ---             |
| model                     | 63.45 [62.25, 64.65] | 34.01 [33.05, 35.00] | 72.36 [71.33, 73.41] | 95.27           |
| popularity                | 10.68 [9.70, 11.77]  | 5.06 [4.31, 5.84]    | 15.67 [14.42, 16.99] | 23.69           |
| co-occurrence + repeats   | 59.00 [57.56, 60.39] | 32.62 [31.63, 33.68] | 69.51 [68.28, 70.74] | 100.00          |
"""
RANKING = "   1     8.4251  item-326  (in the session)\n   2     3.3679  item-2874  (clicked together with item-326)\n"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of `.ci`."""
    monkeypatch.syspath_prepend(ROOT / ".ci")
    spec = importlib.util.spec_from_file_location(name, ROOT / f".ci/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    demo = load("demo", monkeypatch)
    ran: list[list[str]] = []

    def read(command: list[str], echo: bool = True) -> str:
        ran.append(command)
        return TABLE if command[1] == "evaluate" else RANKING

    monkeypatch.setattr(demo, "run", ran.append)
    monkeypatch.setattr(demo, "read", read)
    demo.job(Path("env/bin"), tmp_path / "out")
    assert [command[1] for command in ran] == ["-m", "prepare", "train", "evaluate", "recommend"]
    assert importlib.util.find_spec(ran[0][2]) is not None
    for command in ran[1:]:
        _parser().parse_args(command[1:])
    output = capsys.readouterr().out
    assert RANKING in output
    assert re.search(r"of 100 next clicks, 72 are .*, 70 among .*baseline .*, 16 among the most popular", output, re.S)


def test_pins_hold_for_one_platform_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    demo = load("demo", monkeypatch)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert demo.pins("constraints.txt") == ""
    assert "installing the newest versions instead" in capsys.readouterr().out


def test_the_demo_installs_its_two_extras_alone() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    chosen = {line.partition("==")[0] for line in lines if "demo" in line.partition("  # ")[2].split()}
    assert {"numpy", "polars", "faiss-cpu", "onnxruntime", "onnx", "matplotlib", "ninja", "pybind11"} <= chosen
    assert chosen.isdisjoint({"ray", "mkdocs", "ruff", "mypy", "mlflow-skinny", "litestar", "pytest", "optuna"})
    assert all("--hash=sha256:" in line for line in lines if "  # " in line)


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    progress = load("progress", monkeypatch)
    monkeypatch.setattr(progress, "PRINTED", 0.05)
    assert progress.run(["sh", "-c", "echo Collecting polars==1; sleep 0.4; echo '[3/97] Building'; sleep 0.4"]) == 0
    output = capsys.readouterr().out
    assert "package polars==1" in output
    assert "compiling: 3 of 97" in output
    with pytest.raises(SystemExit):
        progress.run(["sh", "-c", "echo the reason; false"])
    assert "the reason" in capsys.readouterr().out
