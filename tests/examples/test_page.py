"""The static page with the WebAssembly engine, in Chromium: its ranking, its requests, and no network."""

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

import pytest

from mtaw_fast.export.page import export_page
from mtaw_fast.recommender import Recommender
from tests.support.cache import ROOT
from tests.support.examples import browser
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

WASM = ROOT / "clients" / "wasm"
SESSION = ["sku-3", "sku-170", "sku-41", "sku-170"]

pytestmark = [
    pytest.mark.skipif(not (WASM / "dist" / "mtaw.wasm").exists(), reason="not built: run 'make wasm'"),
    pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing())),
]


class Watched(http.server.ThreadingHTTPServer):
    """Keeps the line of every request."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=folder))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        assert isinstance(self.server, Watched)
        self.server.requests.append(self.requestline)

    def log_message(self, format: str, *arguments: Any) -> None:
        return


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    save_parts(folder / "whole", **bundle_parts(n_items=200, max_session_length=30), **memory_parts(200))
    export_page(folder / "whole", folder / "page")
    return folder / "page"


@pytest.fixture
def server(bundle: Path, tmp_path: Path) -> Iterator[Watched]:
    """Serve the site."""
    (tmp_path / "site" / "bundle").mkdir(parents=True)
    (tmp_path / "site" / "bundle" / "weights-of-an-earlier-bundle").touch()
    command = [sys.executable, str(ROOT / "examples" / "build_page.py"), str(bundle), str(tmp_path / "site")]
    subprocess.run(command, check=True, timeout=120)
    with Watched(tmp_path / "site") as watched:
        thread = threading.Thread(target=watched.serve_forever)
        thread.start()
        yield watched
        watched.shutdown()
        thread.join()


def ranking_of(window: browser.Browser, session: list[str]) -> list[tuple[str, float]]:
    """Return what the page shows for the session."""
    state = "return document.getElementById('state').textContent"
    window.wait(lambda: str(window.run(state)).startswith("ready: mtaw_fast"), "the page")
    window.type("#session", " ".join(session))
    window.click("#go")
    window.wait(lambda: str(window.run(state)).startswith("10 items in"), "the ranking")
    rows = window.run("return [...document.querySelectorAll('#ranking tr')].map(r => r.innerText.split('\\t'))")
    return [(row[1], float(row[2])) for row in rows]


def test_it_ranks_without_a_network_and_no_click_leaves_it(bundle: Path, server: Watched, tmp_path: Path) -> None:
    log = tmp_path / "network.json"
    window = browser.Browser(tmp_path / "profile", f"--log-net-log={log}")
    try:
        window.open(server.url)
        first = ranking_of(window, SESSION)
        expected = Recommender.load(bundle).recommend(SESSION, 10)
        assert [item for item, _ in first] == expected.items
        assert [score for _, score in first] == pytest.approx(list(expected.scores), abs=1e-3)
        # Another session: no request follows it.
        requests = list(server.requests)
        window.run("document.getElementById('session').value = ''")
        window.type("#session", "sku-9 sku-4")
        window.click("#go")
        items = "return [...document.querySelectorAll('#ranking td:nth-child(2)')].map(c => c.innerText)"
        others = Recommender.load(bundle).recommend(["sku-9", "sku-4"], 10).items
        window.wait(lambda: window.run(items) == others, "the second ranking")
        assert server.requests == requests
        site = tmp_path / "site"
        assert {path.name for path in (site / "bundle").iterdir()} == {path.name for path in bundle.iterdir()}
        for line in requests:
            method, path, _ = line.split(" ")
            assert method == "GET"
            assert (site / path.lstrip("/")).exists(), path  # a file of the site: no query, and no id in it
        window.run("document.before = true")
        window.reload()
        window.wait(lambda: window.run("return document.before !== true"), "the reload")
        assert ranking_of(window, SESSION) == first  # without a controller, which does not come
        server.shutdown()
        server.server_close()
        window.open(server.url)
        assert ranking_of(window, SESSION) == first
    finally:
        window.close()
    text = log.read_text().strip()
    urls = urls_in(text, server.url.rstrip("/"))
    assert any(url.endswith(".wasm") for url in urls)
    assert all(url.startswith(server.url) for url in urls), urls
    assert "sku-" not in text  # nor does the browser itself send what was typed


def test_a_bundle_for_an_engine_that_was_not_built_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    script = shutil.copy(ROOT / "examples" / "build_page.py", tmp_path / "examples")
    command = [sys.executable, script, str(bundle), str(tmp_path / "site"), "--page", str(bundle)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 2
    assert "which is not built" in process.stderr
    assert not (tmp_path / "site").exists()


def urls_in(log: str, origin: str) -> set[str]:
    """Return the addresses of all requests of an origin's pages and workers in Chromium's log of its network."""
    try:
        events = json.loads(log)["events"]
    except json.JSONDecodeError:  # the browser ended before the log's last line
        events = json.loads(log.rstrip(",") + "]}")["events"]
    requests = (event.get("params", {}) for event in events)
    return {request["url"] for request in requests if "url" in request and request.get("initiator") == origin}


def test_the_readme_example_runs_in_a_page(bundle: Path, tmp_path: Path) -> None:
    readme = (WASM / "README.md").read_text()
    code = readme.partition("```js\n")[2].partition("```")[0]
    assert "console.log" not in code
    site = tmp_path / "site"
    (site / "package").mkdir(parents=True)
    (site / "page.bundle").symlink_to(bundle)
    for name in ("index.mjs", "dist"):
        (site / "package" / name).symlink_to(WASM / name)
    imports = json.dumps({"imports": {"mtaw-wasm": "/package/index.mjs"}})
    (site / "index.html").write_text(
        f'<!doctype html><script type="importmap">{imports}</script><script type="module">{code}\n'
        "document.title = JSON.stringify(items);</script>"
    )
    with Watched(site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        window = browser.Browser(tmp_path / "profile")
        try:
            window.open(server.url)
            window.wait(lambda: str(window.run("return document.title")).startswith("["), "the example")
            items = json.loads(window.run("return document.title"))
        finally:
            window.close()
            server.shutdown()
            thread.join()
    assert items == Recommender.load(bundle).recommend(["sku-9", "sku-4"], 10, exclude_seen=True).items
