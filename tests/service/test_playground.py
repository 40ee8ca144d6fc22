"""The page at / in a real browser: what it shows is what the service answers."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

from mtaw_fast.recommender import Recommender
from tests.service.conftest import INT_IDS
from tests.service.running import Running

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture
def browser() -> str:
    """The browser's command."""
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    return found


def page(browser: str, service: Running, folder: Path, items: list[str]) -> str:
    """The page's DOM after it asked for a session."""
    address = f"http://127.0.0.1:{service.port}/#{','.join(quote(item, safe='') for item in items)}"
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={folder}", "--virtual-time-budget=15000", "--dump-dom", address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def column(dom: str, kind: str) -> list[str]:
    """The texts of a column of the results."""
    (table,) = re.findall(r'<table id="results">.*?</table>', dom, re.DOTALL)
    return [unescape(text) for text in re.findall(rf'<td class="{kind}">(.*?)</td>', table)]


@pytest.mark.slow
def test_it_shows_the_ranking(browser: str, text_service: Running, text_bundle: Path, tmp_path: Path) -> None:
    session = ["sku-11", "sku-12", "a b", 'quote"\\', "<b>nobody</b>"]
    dom = page(browser, text_service, tmp_path, session)
    out = Recommender.load(text_bundle).recommend(session, 20, repeats=True)
    assert column(dom, "id") == out.items
    numbers = column(dom, "number")
    assert numbers[0::2] == [str(rank) for rank in range(1, 21)]
    assert numbers[1::2] == [f"{score:.4f}" for score in out.scores.tolist()]
    assert out.repeats is not None
    assert dom.count('<span class="badge">in session</span>') == int(out.repeats.sum())
    assert len(re.findall(r"[\d.]+ µs", dom)) == 6
    assert "Not in the catalog: &lt;b&gt;nobody&lt;/b&gt;" in dom
    assert "60 items · native encoder" in dom


@pytest.mark.slow
def test_it_keeps_all_digits_of_integers(browser: str, int_service: Running, int_bundle: Path, tmp_path: Path) -> None:
    session = [str(item) for item in INT_IDS]
    dom = page(browser, int_service, tmp_path, session)
    out = Recommender.load(int_bundle).recommend(INT_IDS, 20)
    assert column(dom, "id") == [str(item) for item in out.items]
    assert "Not in the catalog" not in dom
    assert "are integers" in page(browser, int_service, tmp_path, ["sku-1"])


def test_it_loads_nothing_from_elsewhere(text_service: Running) -> None:
    reply = text_service.ask("GET", "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    wanted = re.findall(r'(?:src|href)="([^"]+)"', reply.body.decode())
    assert set(wanted) == {"playground.css", "playground.js", "data:,"}
    for name, kind in (("playground.css", "text/css"), ("playground.js", "text/javascript")):
        part = text_service.ask("GET", f"/{name}")
        assert part.status == 200
        assert part.headers["content-type"].startswith(kind)
        assert b"://" not in part.body
