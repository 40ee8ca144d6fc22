"""How long the WebAssembly engine takes to load a bundle and to rank, in Node and in Chromium.

python -m tests.clients.wasm_speed PAGE BUNDLE [--sessions N]

PAGE was written by `mtaw-fast export BUNDLE --page PAGE`. The sessions are the latest in the memory of BUNDLE. `cached`
is the time that the page takes to load PAGE on its second visit, without a network.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.machine import usable_cores
from mtaw_fast.bundle import Bundle
from tests.clients import calls
from tests.clients.compare import wasm_command
from tests.support.cache import ROOT
from tests.support.examples import browser

WASM = ROOT / "clients" / "wasm"
_IN_PAGE = """
import('/mtaw/index.mjs').then(async ({ Recommender }) => {
  const recommender = await Recommender.fetch('/bundle');
  const times = [];
  for (const session of %s) {
    const begin = performance.now();
    recommender.recommend(session);
    times.push(performance.now() - begin);
  }
  document.title = JSON.stringify(times);
});
"""


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--sessions", type=int, default=300)
    options = parser.parse_args()
    bundle = Bundle.load(options.bundle)
    recent = bundle.model.sessions.slice(-options.sessions, len(bundle.model.sessions))
    sessions = [bundle.ids.external(np.asarray(session))[:-1] for session in recent]
    queries = [list(session) for session in sessions if len(session)]
    size = sum(path.stat().st_size for path in options.page.iterdir())
    module = sum((WASM / "dist" / name).stat().st_size for name in ("mtaw.mjs", "mtaw.wasm"))
    print(f"bundle {size / 1e6:.1f} MB, module {module / 1e6:.2f} MB, {bundle.n_items:,} items")
    clicks = statistics.mean(map(len, queries))
    print(f"{len(queries)} sessions of {clicks:.1f} clicks; {usable_cores()} cores, load {os.getloadavg()[0]:.0f}")
    for _ in range(3):
        print(f"Node: {in_node(options.page, queries)}")
        if browser.missing() is None:
            print(f"Chromium: {in_chromium(options.page, queries)}")
    return 0


def in_node(bundle: Path, asked: list[Any]) -> str:
    """Return the times of Node."""
    lines = "".join(f"{json.dumps(calls.ask(session=session))}\n" for session in asked)
    completed = subprocess.run(
        [*wasm_command(bundle), str(bundle)], input=lines, capture_output=True, text=True, check=True
    )
    opened = re.search(r"opened in (\d+) ms", completed.stderr)
    assert opened is not None
    return f"opened in {opened[1]} ms, {_shown([json.loads(line)['ms'] for line in completed.stdout.splitlines()])}"


def in_chromium(bundle: Path, asked: list[Any]) -> str:
    """Return the times of a page in Chromium."""
    with tempfile.TemporaryDirectory() as work:
        site = Path(work) / "site"
        subprocess.run([sys.executable, str(ROOT / "examples" / "build_page.py"), str(bundle), str(site)], check=True)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=site))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        window = browser.Browser(Path(work) / "profile")
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            loaded = []
            for _ in range(2):
                window.open("about:blank")
                window.open(url)
                state = "return document.getElementById('state').textContent"
                window.wait(lambda: str(window.run(state)).startswith("ready"), "the page")  # noqa: B023
                loaded.append(re.findall(r"(\d+) ms", str(window.run(state)))[0])
            window.run(_IN_PAGE % json.dumps(asked))
            window.wait(lambda: str(window.run("return document.title")).startswith("["), "the sessions")
            times = json.loads(window.run("return document.title"))
        finally:
            window.close()
            server.shutdown()
            thread.join()
            server.server_close()
    return f"first {loaded[0]} ms, cached {loaded[1]} ms, {_shown(times)}"


def _shown(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ms a session (p90 {np.percentile(times, 90):.2f})"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        return


if __name__ == "__main__":
    raise SystemExit(main())
