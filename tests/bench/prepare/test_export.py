"""The export bench on a toy bundle: its JSON, its lines for people and its gate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the export bench needs the extra 'train'")
pytest.importorskip("onnx", reason="the export bench needs the extra 'train'")
pytest.importorskip("onnxruntime", reason="the export bench needs the extra 'cpu'")
pytest.importorskip("faiss", reason="the export bench needs the extra 'cpu'")

from bench.harness.comparison import Plan
from bench.prepare import export, export_cases
from mtaw_fast.export.onnx_model import export_onnx
from mtaw_fast.ranking.encoders.onnx_encoder import OnnxEncoder
from tests.support.bench.schema import check_report
from tests.support.random_bundle import bundle_parts, save_parts


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, graphs in it."""
    folder = tmp_path_factory.mktemp("bench")
    save_parts(folder / "bundle", **bundle_parts(n_items=300, embedding_dim=16, max_session_length=12, text=False))
    export_onnx(folder / "bundle")
    return folder


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, cheap_timing: None) -> None:
    monkeypatch.setattr(export, "_QUICK_PLAN", Plan(rounds=3, burst=2, settle=1, warmup=1))
    monkeypatch.setattr(export, "QUICK_LENGTHS", (3, 12, 512))
    monkeypatch.setattr(export_cases, "_SESSIONS", 16)


def test_every_case(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bundle", str(work / "bundle")]
    assert export.main([*arguments, "--quick", "--json", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    check_report(report)
    graphs = ["onnx-float32", "onnx-fp16", "onnx-int8"]
    names = {
        "encode": ["onnx-encoder", "torch-eager", *graphs],
        "recommend": graphs,
        "session-options": [*export_cases._OPTIONS, "run() alone", "IOBinding alone"],
    }
    assert [(row["case"], row["params"]["clicks"], row["baseline"]) for row in report["results"]] == [
        (case, clicks, name) for clicks in (3, 12) for case, peers in names.items() for name in peers
    ]
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("float32: encoder 0.", "fp16: encoder 0.", "int8: encoder 0.")) for line in lines) == 3


def test_a_wrong_vector_gets_no_speed(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = OnnxEncoder.encode
    monkeypatch.setattr(OnnxEncoder, "encode", lambda *arguments: right(*arguments) * np.float32(1.001))
    monkeypatch.setattr(export, "QUICK_LENGTHS", (3,))
    assert export.main(["--bundle", str(work / "bundle"), "--quick", "--json", str(tmp_path / "out.json")]) == 1
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    assert "onnx-encoder" not in {row["baseline"] for row in rows}
    assert {row["case"] for row in rows} >= {"encode", "recommend"}


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_parts(tmp_path / "bundle", **bundle_parts())
    assert export.main(["--bundle", str(tmp_path / "bundle"), "--quick"]) == 2
    assert "has no graphs; add them with 'mtaw-fast export" in capsys.readouterr().err
