"""The examples that serve an exported graph without mtaw_fast."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from tests.support.examples import browser
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
WEB = EXAMPLES / "node_modules" / "onnxruntime-web"
CLICKS = [3, 170, 41, 170]


@pytest.fixture(scope="module", params=[True, False], ids=["text-ids", "int-ids"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("examples") / "bundle"
    parts = bundle_parts(n_items=200, embedding_dim=16, max_session_length=30, text=request.param)
    save_parts(path, **parts, **memory_parts(200))
    export_onnx(path, ["float32"])
    return path


@pytest.fixture(scope="module")
def rec(folder: Path) -> Recommender:
    return Recommender.load(folder)


@pytest.fixture(scope="module")
def clicks(rec: Recommender) -> list[str]:
    """Return known ids and unknown ones, one of which only begins with a number."""
    known = [str(item) for item in rec.ids.external(np.array(CLICKS))]
    return [known[0], "999999", f"{known[1]}-old", *known[1:]]


def run(command: list[str], cwd: Path) -> str:
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, process.stderr
    return process.stdout


def assert_answer(items: list[Any], scores: list[float], rec: Recommender, session: list[int]) -> None:
    expected = rec.recommend(rec.ids.external(np.array(session, np.int32)), k=10)
    assert [str(item) for item in items] == [str(item) for item in expected.items]
    assert scores == pytest.approx(expected.scores, abs=1e-4)


def test_onnxruntime_alone(folder: Path, rec: Recommender, clicks: list[str], tmp_path: Path) -> None:
    """In a separate folder, without mtaw_fast."""
    (tmp_path / "mtaw_fast.py").write_text("raise ImportError('the example must do without')\n")
    shutil.copy(EXAMPLES / "onnx_serve.py", tmp_path)
    for arguments, session in ((clicks, CLICKS), ([], []), (["999999"], [])):
        answer = json.loads(run([sys.executable, "onnx_serve.py", str(folder), *arguments], tmp_path))
        assert_answer(answer["items"], answer["scores"], rec, session)


def test_node(folder: Path, rec: Recommender, clicks: list[str]) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if not WEB.is_dir():
        pytest.skip("onnxruntime-web is not installed: npm install --prefix examples")
    answer = json.loads(run([node, str(EXAMPLES / "onnx_web.mjs"), str(folder), *clicks], EXAMPLES))
    assert_answer(answer["items"], answer["scores"], rec, CLICKS)


def test_cpp(folder: Path, rec: Recommender, clicks: list[str], tmp_path: Path) -> None:
    """With the distribution's ONNX Runtime."""
    compiler = shutil.which("g++")
    header = Path("/usr/include/onnxruntime/onnxruntime_cxx_api.h")
    if compiler is None or not header.exists():
        pytest.skip("the distribution's ONNX Runtime is not installed: apt-get install g++ libonnxruntime-dev")
    source, program = EXAMPLES / "onnx_serve.cpp", tmp_path / "onnx_serve"
    run([compiler, "-std=c++17", f"-I{header.parent}", str(source), "-lonnxruntime", "-o", str(program)], tmp_path)
    graph = Bundle.load(folder).file("recommender")
    for arguments, session in ((clicks, CLICKS), ([], [])):
        lines = [line.split("\t") for line in run([str(program), str(graph), *arguments], tmp_path).splitlines()]
        assert_answer([line[0] for line in lines], [float(line[1]) for line in lines], rec, session)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        return


@pytest.fixture
def site(folder: Path, tmp_path: Path) -> Iterator[str]:
    """Return the address of the static page over the bundle."""
    run([sys.executable, str(EXAMPLES / "build_page.py"), str(folder), str(tmp_path / "site")], tmp_path)
    handler = functools.partial(Quiet, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
@pytest.mark.skipif(not WEB.is_dir(), reason="onnxruntime-web is not installed: npm install --prefix examples")
def test_the_page_ranks_in_a_browser(site: str, rec: Recommender, clicks: list[str], tmp_path: Path) -> None:
    window = browser.Browser(tmp_path / "profile")
    try:
        window.open(f"{site}?engine=onnx")
        state = "return document.getElementById('state').textContent"
        window.wait(lambda: str(window.run(state)).startswith("ready: ONNX"), "the page")
        window.type("#session", " ".join(clicks))
        window.click("#go")
        window.wait(lambda: str(window.run(state)).startswith("10 items in"), "the ranking")
        rows = window.run("return [...document.querySelectorAll('#ranking tr')].map(r => r.innerText.split('\\t'))")
        assert [int(row[0]) for row in rows] == list(range(1, 11))
        assert_answer([row[1] for row in rows], [float(row[2]) for row in rows], rec, CLICKS)
        if "wasm" in json.loads((tmp_path / "site" / "engines.json").read_text()):
            choose = "const e = document.getElementById('engine'); e.value = '%s'; e.dispatchEvent(new Event('change'))"
            window.run(choose % "wasm")
            window.wait(lambda: str(window.run(state)).startswith("ready: mtaw_fast"), "the other engine")
            window.click("#go")
            window.wait(lambda: str(window.run(state)).startswith("10 items in"), "its ranking")
            items = "return [...document.querySelectorAll('#ranking tr td:nth-child(2)')].map(c => c.innerText)"
            assert window.run(items) == [row[1] for row in rows]
            window.run(choose % "onnx")
            window.wait(lambda: str(window.run(state)).startswith("ready: ONNX"), "the first engine")
        window.click("#seen")
        window.type("#exclude", str(rows[1][1]))
        window.click("#go")
        window.wait(
            lambda: rows[1][1] not in window.run("return document.getElementById('ranking').innerText"),
            "the conditions",
        )
        shown = window.run("return [...document.querySelectorAll('#ranking tr td:nth-child(2)')].map(c => c.innerText)")
        known = rec.ids.external(np.array(CLICKS))
        excluded = rows[1][1] if rec.ids.kind == "str" else int(rows[1][1])
        expected = rec.recommend(known, k=10, exclude=[excluded], exclude_seen=True)
        assert shown == [str(item) for item in expected.items]
    finally:
        window.close()
