"""The web pages in a real browser: they show what the service answers."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mtaw_fast.recommender import Recommender
from mtaw_fast.service.routes import pages
from tests.service.conftest import INT_IDS
from tests.support.service.browser import Browser, find_browser
from tests.support.service.running import ADMIN_TOKEN, WITH_TOKEN, Running, eventually, refused, running

PAGES = Path(pages.__file__).with_name("static")


@pytest.mark.parametrize("path", ["/", "/docs", "/watch", "/docs.js", "/healthz", "/metrics", "/openapi.json"])
def test_head_is_get_without_the_body(text_service: Running, path: str) -> None:
    got, head = (text_service.ask(method, path) for method in ("GET", "HEAD"))
    assert (got.status, head.status, head.body) == (200, 200, b"")
    same = got.headers.keys() - {"date"} if path != "/metrics" else {"content-type", "content-security-policy"}
    assert {name: head.headers.get(name) for name in same} == {name: got.headers.get(name) for name in same}
    assert {"GET", "HEAD"} <= set(text_service.ask("POST", path).headers["allow"].split(", "))
    assert refused(text_service.ask("GET", "/nope"), 404, "not_found")
    assert text_service.ask("HEAD", "/nope").status == 404


@pytest.fixture
def browser() -> str:
    command = find_browser()
    if command is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    return command


def page(browser: str, service: Running, folder: Path, items: list[str]) -> str:
    """Return the page's DOM after it ranked a session."""
    address = f"http://127.0.0.1:{service.port}/#{','.join(quote(item, safe='') for item in items)}"
    command = [
        browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={folder}", "--virtual-time-budget=15000", "--dump-dom", address,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def column(dom: str, kind: str) -> list[str]:
    """Return the texts of a column of the results."""
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


@pytest.fixture
def own(memory_bundle: Path, tmp_path: Path) -> Iterator[Running]:
    options = ("--sessions", "memory", "--feedback", f"{tmp_path}/feedback/", "--learn", str(tmp_path / "learned"))
    with running(memory_bundle, *options) as service:
        yield service


@pytest.fixture
def tab(browser: str, tmp_path: Path) -> Iterator[Browser]:
    tab = Browser(browser, tmp_path / "profile")
    yield tab
    tab.close()


_SESSION = "document.getElementById('session').value"
_FOCUS = "document.activeElement.dataset.item ?? document.activeElement.id"


@pytest.mark.slow
def test_it_works_from_the_keyboard(tab: Browser, own: Running, memory_bundle: Path) -> None:
    rec = Recommender.load(memory_bundle)
    tab.go(f"http://127.0.0.1:{own.port}/")
    tab.wait("document.getElementById('bundle')?.textContent.includes('items')")
    # Search for an item and choose it.
    tab.ask("document.activeElement.blur()")
    tab.press("/")
    assert tab.ask(_FOCUS) == "search"
    tab.type("sku-1")
    tab.wait("document.getElementById('found').children.length == 11")
    for _ in range(2):
        tab.press("ArrowDown")
    assert tab.ask("document.querySelector('[aria-selected=true]').textContent") == "sku-11"
    tab.press("Enter")
    tab.wait("document.body.dataset.answered == 1")
    assert tab.ask(_SESSION) == "sku-11"
    # Add to the session by typing, and rank it.
    tab.ask("document.getElementById('session').focus()")
    tab.press("End")
    tab.press("Enter")
    tab.type("sku-30")
    tab.press("Enter", ctrl=True)
    tab.wait("document.body.dataset.answered == 2")
    out = rec.recommend(["sku-11", "sku-30"], 20, reasons=True)
    rows = "[...document.querySelectorAll('#results tbody tr')]"
    assert tab.ask(f"{rows}.map(row => row.dataset.item)") == out.items
    labels = {"session": "in session", "encoder": "like the session as a whole"}
    assert out.reasons is not None
    expected = [labels.get(reason.kind, f"seen together with {', '.join(reason.items)}") for reason in out.reasons]
    assert tab.ask(f"{rows}.map(row => row.querySelector('.why').textContent)") == expected
    assert len(set(expected)) > 2
    # Tab reaches the results as one stop, the arrow keys move through them.
    tab.ask("document.querySelector('#ask > button').focus()")
    tab.press("Tab")
    assert tab.ask(_FOCUS) == out.items[0]
    tab.press("ArrowDown")
    tab.press("ArrowDown")
    assert tab.ask(_FOCUS) == out.items[2]
    # Show similar items by vectors and by sessions, and close them.
    tab.press("s")
    neighbors = "[...document.querySelectorAll('#neighbors tbody tr')].map(row => row.dataset.item)"
    tab.wait(f"document.body.dataset.similarTo == {json.dumps(out.items[2])}")
    assert tab.ask(_FOCUS) == "similar"
    assert tab.ask(neighbors) == rec.similar_items(out.items[2], 20).items
    tab.press("Tab")
    tab.press("ArrowDown")  # the other radio button
    by_sessions = rec.similar_items(out.items[2], 20, by="sessions").items
    tab.wait(f"JSON.stringify({neighbors}) == {json.dumps(json.dumps(by_sessions, separators=(',', ':')))}")
    tab.press("Escape")
    assert tab.ask("document.getElementById('similar').hidden")
    assert tab.ask(_FOCUS) == out.items[2]
    # Add the result to the session.
    tab.press("Enter")
    tab.wait("document.body.dataset.answered == 3")
    assert tab.ask(_SESSION).split() == ["sku-11", "sku-30", out.items[2]]
    tab.wait(f"({_FOCUS}) == {rows}[0].dataset.item")
    assert tab.errors == []


@pytest.mark.slow
def test_the_api_page_sends_requests(tab: Browser, own: Running) -> None:
    document = own.ask("GET", "/openapi.json").json
    tab.go(f"http://127.0.0.1:{own.port}/docs#recommend")
    tab.wait("document.body?.dataset.routes")
    listed = tab.ask("[...document.querySelectorAll('details')].map(one => one.id)")
    described = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert sorted(listed) == sorted(described)
    assert tab.ask("document.getElementById('recommend').open")
    text = tab.ask("document.getElementById('recommend').innerText")
    for words in ("Report why each result", "≤ 500", "too large", "ReasonAnswer", "Try it"):
        assert words in text
    answer = "document.querySelector('#{} .try pre').textContent"
    for route, filling, expected in (
        ("recommend", "", "200\n{"), ("bundle", "", "200\n{"), ("add_items", "", "401\n"),
        ("similar", "document.querySelector('#similar [data-name=item]').value = 'sku-4';", "200\n{"),
        ("session", "document.querySelector('#session [data-name=session_id]').value = 'nobody';", "404\n"),
    ):  # fmt: skip
        tab.ask(f"document.getElementById('{route}').open = true; {filling}"
                f"document.querySelector('#{route} .try').requestSubmit()")  # fmt: skip
        tab.wait(f"!document.querySelector('#{route} .try pre').hidden")
        assert tab.ask(answer.format(route)).startswith(expected), route
    assert not [error for error in tab.errors if "status of 4" not in error]  # the browser's own words on 401 and 404


@pytest.mark.slow
def test_the_watch_page_follows_the_metrics(tab: Browser, own: Running) -> None:
    for item in ("sku-11", "sku-12"):
        own.ask("POST", "/v1/sessions/s-1/click", {"items": [item]})
    tab.go(f"http://127.0.0.1:{own.port}/watch")
    tab.wait("document.body?.dataset.looks >= 2")
    parts = "[one.children[0].textContent, one.children[1].textContent]"
    tiles = dict(tab.ask(f"[...document.querySelectorAll('.tile')].map(one => {parts})"))
    assert len(tiles) == 10
    assert tiles["Rankings a second"] == "0"  # none since the page was opened
    arms = tab.ask("[...document.querySelectorAll('#arms tbody tr')].map(one => one.innerText)")
    assert len(arms) == 1
    assert arms[0].startswith("bundle")
    assert tab.ask("document.documentElement.scrollWidth <= innerWidth")
    assert tab.errors == []


def from_watch(script: str) -> Any:
    """Return what `script` logs as JSON, with the functions of the watch page."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    functions = (PAGES / "watch.js").read_text().partition("const TILES")[0]
    run = subprocess.run(["node", "-e", functions + script], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_a_restart_of_the_service_takes_nothing_away() -> None:
    counts = "[...[0, 5, 9, 2].map((count) => parsed(`n ${count}`))]"
    script = f"const [none, five, nine, two] = {counts}; const count = added('n');"
    script += "console.log(JSON.stringify([count(nine, null), count(nine, five), count(two, nine), count(none, five)]))"
    assert from_watch(script) == [9, 4, 2, 0]


def test_the_items_that_two_arms_cover_are_not_added() -> None:
    arms = [("a", "old", 2704, 2947), ("b", "new", 2800, 2947)]
    text = "".join(
        f'mtaw_bundle_info{{version="{version}",bundle="{bundle}"}} 1\n'
        f'mtaw_covered_items{{version="{version}"}} {covered}\nmtaw_catalog_items{{version="{version}"}} {items}\n'
        for version, bundle, covered, items in arms
    )
    widest = from_watch(f"console.log(JSON.stringify(widest(parsed({json.dumps(text)}))))")
    assert widest == {"bundle": "new", "covered": 2800, "items": 2947, "share": 2800 / 2947}


@pytest.mark.slow
def test_the_experiment_page_needs_the_token_and_shows_the_verdict(tab: Browser, own: Running) -> None:
    refused(own.ask("GET", "/admin/experiment"), 401, "unauthorized")
    reply = own.ask("GET", "/admin/experiment?metric=none", headers=WITH_TOKEN)
    assert "metric" in refused(reply, 400, "invalid_request")
    refused(own.ask("GET", "/admin/experiment?log=/etc/passwd", headers=WITH_TOKEN), 400, "invalid_request")
    for number in range(3):
        body = {"session": ["sku-11"], "session_id": f"s-{number}"}
        answer = own.ask("POST", "/v1/recommend", body).json
        own.ask("POST", "/v1/feedback", {"recommendation": answer["recommendation"], "clicked": answer["items"][:1]})
    eventually(lambda: own.ask("GET", "/admin/experiment?planned=9", headers=WITH_TOKEN).status == 200)
    tab.go(f"http://127.0.0.1:{own.port}/experiment")
    tab.wait("document.body?.dataset.ready")
    tab.ask(f"document.getElementById('token').value = '{ADMIN_TOKEN}'; document.getElementById('ask').requestSubmit()")
    tab.wait("document.body?.dataset.shown == 1")
    assert "nothing to compare" in tab.ask("document.getElementById('verdict').textContent")
    assert tab.ask("document.querySelectorAll('#arms tbody tr').length") == 1
    assert tab.errors == []


@pytest.mark.parametrize("path", ["/", "/docs", "/watch", "/experiment"])
def test_pages_load_nothing_from_elsewhere(text_service: Running, path: str) -> None:
    reply = text_service.ask("GET", path)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "unsafe" not in reply.headers["content-security-policy"]
    name = path[1:] or "playground"
    links = set(re.findall(r'(?:src|href)="([^"]+)"', reply.body.decode())) - {
        "docs",
        "./",
        "watch",
        "experiment",
        "openapi.json",
    }
    assert links == {"style.css", f"{name}.css", f"{name}.js", "data:,"}
    for part, kind in (("style.css", "text/css"), (f"{name}.css", "text/css"), (f"{name}.js", "text/javascript")):
        part_reply = text_service.ask("GET", f"/{part}")
        assert part_reply.status == 200
        assert part_reply.headers["content-type"].startswith(kind)
        assert b"://" not in part_reply.body.replace(b'"http://www.w3.org/2000/svg"', b"")
