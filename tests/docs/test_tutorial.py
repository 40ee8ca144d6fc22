"""The tutorial's commands, word for word, in an empty folder; then the how-to pages' own, in the folder that it leaves.

The install before them is run by hand (`python -m tests.docs.fresh`): it takes minutes.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, Block, blocks, script, tutorial

for package, extra in (("torch", "train"), ("polars", "train"), ("litestar", "serve")):
    pytest.importorskip(package, reason=f"{package} is not installed: the extra {extra}")

HOW_TO = [page for page in sorted((DOCS / "how-to").glob("*.md")) if any(b.kind == "python" for b in blocks(page))]


def run(text: str, folder: Path) -> str:
    """What a script prints in a folder, with this environment's programs before others."""
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.run(
        ["bash", "-c", text], cwd=folder, env={**os.environ, "PATH": programs}, text=True, timeout=500,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.returncode == 0, process.stdout
    return process.stdout


@pytest.fixture(scope="module")
def port() -> str:
    """A free port: the tutorial's own may be taken. It is all that is changed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, port: str) -> tuple[str, Path]:
    """What the tutorial's commands print, and the folder that they leave."""
    folder = tmp_path_factory.mktemp("reader")
    _, rest = tutorial()
    return run(script(rest).replace("8000", port), folder), folder / "tutorial"


def test_the_tutorial_runs(said: tuple[str, Path]) -> None:
    printed, folder = said
    assert (folder / "shop.bundle/manifest.json").exists()
    assert "co-occurrence + repeats" in printed
    assert len(re.findall(r"^ +\d +-?[\d.]+  item-\d+  \(.+\)$", printed, re.M)) == 5  # with their reasons
    assert '"items":["item-' in printed.replace(" ", "")


@pytest.mark.parametrize("shown", [block for block in tutorial()[1] if block.kind == "text"], ids=lambda b: b.text[:12])
def test_what_the_tutorial_shows_is_printed(said: tuple[str, Path], shown: Block) -> None:
    printed = {line.strip() for line in said[0].splitlines()}
    assert [line for line in shown.text.splitlines() if line.strip() not in printed] == []


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(said: tuple[str, Path], page: Path) -> None:
    together = "".join(block.text for block in blocks(page) if block.kind == "python")  # a page is one session
    run(script([Block("python", together)]), said[1])
