"""The examples that serve an exported graph without us."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.recommender import Recommender
from tests.random_bundle import save_random

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
CLICKS = [3, 170, 41, 170]


@pytest.fixture(scope="module", params=[True, False], ids=["text-ids", "int-ids"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "bundle"
    save_random(path, n_items=200, d=16, max_len=30, text=request.param)
    export_onnx(path, ["float32"])
    return path


def run(command: list[str], cwd: Path) -> dict[str, Any]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_onnxruntime_alone(folder: Path, tmp_path: Path) -> None:
    """In a folder of its own, with an import of mtaw_fast made impossible."""
    rec = Recommender.load(folder)
    external = rec.ids.external(np.array(CLICKS))
    (tmp_path / "mtaw_fast.py").write_text("raise ImportError('the example must do without')\n")
    shutil.copy(EXAMPLES / "onnx_serve.py", tmp_path)
    got = run([sys.executable, "onnx_serve.py", str(folder), *map(str, external)], tmp_path)
    want = rec.recommend(external, k=10)
    assert got["items"] == want.items
    assert got["scores"] == pytest.approx(want.scores, abs=2e-5)


def test_onnxruntime_web(folder: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not (EXAMPLES / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed: npm install --prefix examples")
    got = run([node, str(EXAMPLES / "onnx_web.mjs"), str(folder), *map(str, CLICKS)], EXAMPLES)
    rec = Recommender.load(folder)
    want = rec.recommend(rec.ids.external(np.array(CLICKS)), k=10)
    assert got["items"] == rec.ids.lookup(want.items).tolist()
    assert got["scores"] == pytest.approx(want.scores, abs=2e-5)
