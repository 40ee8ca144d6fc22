"""Every command of the docs is one that the command line takes; the site builds, and reads without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.cli import _parser
from tests.docs.pages import DOCS, ROOT, blocks, commands

INDENTED = re.compile(r"(?:^    .*\n?)+", re.M)
PAGES = [page for page in [*sorted(DOCS.rglob("*.md")), ROOT / "README.md"] if "results" not in page.parent.name]
SITE_PAGES = 25


def shell_texts(page: Path) -> list[str]:
    """The shell blocks of a page, fenced or indented."""
    fenced = [block.text for block in blocks(page) if block.kind in ("sh", "console")]
    prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    return [*fenced, *(text for text in INDENTED.findall(prose) if "mtaw-fast " in text)]


@pytest.mark.parametrize("page", [page for page in PAGES if shell_texts(page)], ids=lambda page: page.stem)
def test_the_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in shell_texts(page):
        for words in commands(text):
            try:
                _parser().parse_args(words)
            except SystemExit:
                pytest.fail(f"{page.name}: mtaw-fast {' '.join(words)}: {capsys.readouterr().err.splitlines()[-1]}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    pytest.importorskip("mkdocs", reason="MkDocs is not installed: the extra docs")
    pytest.importorskip("material", reason="mkdocs-material is not installed: the extra docs")
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return folder


def test_the_site_reads_without_a_network(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > SITE_PAGES
    loads = re.compile(r"<(?:script|img|iframe|source)[^>]* src=[\"']?([^\"'\s>]+)|<link[^>]* href=[\"']?([^\"'\s>]+)")
    fetched = {a or b for page in pages for a, b in loads.findall(page.read_text())}
    assert [url for url in fetched if url.startswith(("http:", "https:", "//"))] == []
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text()), style


def test_links_between_files_lead_somewhere(site: Path) -> None:
    dead = set()
    for page in site.rglob("*.html"):
        for href in re.findall(r"<a [^>]*href=[\"']?([^\"'\s>]+)", page.read_text()):
            target = href.partition("#")[0]
            is_local = target and not re.match(r"\w+:", target) and page.name != "404.html"
            if is_local and not (page.parent / target).exists():
                dead.add((page.name, href))
    assert dead == set()


def test_links_lead_to_headings_that_exist(site: Path) -> None:
    pages = {page.resolve(): page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}
    places = {page: set(re.findall(r"\bid=[\"']?([^\"'\s>]+)", text)) for page, text in pages.items()}
    dead = set()
    for page, text in pages.items():
        for target, place in re.findall(r"<a [^>]*href=[\"']?([^\"'\s>#:]*)#([^\"'\s>]+)", text):
            destination = (page.parent / target).resolve() if target else page
            if place not in places.get(destination, {place}):
                dead.add((page.name, f"{target}#{place}"))
    assert dead == set()


def test_the_api_is_made_from_docstrings(site: Path) -> None:
    page = (site / "api/recommender.html").read_text()
    for name in ("recommend", "recommend_batch", "similar_items", "filter", "add_items", "exclude_seen"):
        assert name in page
    assert "float32" in (site / "api/kernels.html").read_text()


def documents(site: Path) -> list[str]:
    """The site's pages by their Markdown's name."""
    return sorted(
        page.relative_to(site).with_suffix(".md").as_posix() for page in site.rglob("*.html") if "404" not in page.name
    )


def test_every_page_is_there_as_markdown(site: Path) -> None:
    for name in documents(site):
        text = (site / name).read_text()
        assert re.search(r"^# \S", text, re.M), name
        assert "<html" not in text
        assert not re.search(r"^::: ", text, re.M), f"{name}: an API reference is not written out"
        assert f'type="text/markdown" href="{Path(name).name}"' in (site / name).with_suffix(".html").read_text()


def test_the_markdown_of_an_api_page_has_signatures_and_docstrings(site: Path) -> None:
    text = (site / "api/recommender.md").read_text()
    for expected in ("### recommend\n", "```python\nload(folder:", "exclude_seen", "Thread-safe"):
        assert expected in text
    assert "### _" not in text


def test_links_of_the_markdown_lead_to_markdown(site: Path) -> None:
    dead = set()
    for name in documents(site):
        prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", (site / name).read_text(), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
            if not re.match(r"\w+:", target) and not (site / name).parent.joinpath(target).exists():
                dead.add((name, target))
    assert dead == set()


def test_llms_txt_lists_every_page_once_with_a_summary(site: Path) -> None:
    text = (site / "llms.txt").read_text()
    assert re.match(r"# mtaw_fast\n\n> \S.+\n\n## ", text)
    rows = re.findall(r"^- \[(.+?)\]\((\S+?)\): (.+)$", text, re.M)
    assert sorted(target for _, target, _ in rows) == documents(site)
    assert [row for row in rows if not row[0] or len(row[2].split()) < 2 or "`" in row[2]] == []
    assert len(rows) == text.count("\n- ")


def test_names_of_pages_are_links_with_their_titles(site: Path) -> None:
    links = [link for page in site.rglob("*.html") for link in re.findall(r"<a [^>]*>(.*?)</a>", page.read_text())]
    assert [text for text in links if re.fullmatch(r"<code>[\w/.-]+\.md</code>", text)] == []
    assert "[Session memory](memory.md)" in (site / "how-it-works.md").read_text()


def test_every_page_can_be_reached(site: Path) -> None:
    start = (site / "index.html").read_text()
    for page in site.rglob("*.html"):
        name = page.relative_to(site).as_posix()
        assert name == "404.html" or name in start, name
