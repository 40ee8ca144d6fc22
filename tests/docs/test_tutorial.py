"""The tutorial's commands in an empty folder; then the how-to pages' own, in the folder that they leave.

The short form trains a smaller bundle, in this process, and serves none. The long one is the tutorial word for word.
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

from mtaw_fast.cli import main
from tests.docs.pages import DOCS, Block, blocks, commands, script, tutorial
from tests.support.training.curves import undrawn

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
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the tutorial's commands print before the training, and the folder that they leave, with a small bundle."""
    from mtaw_fast import train
    from mtaw_fast.config import preset

    folder = tmp_path_factory.mktemp("shop")
    blocks_before = [block for block in tutorial()[1] if block.kind == "sh"][:2]
    printed = run(script(blocks_before), folder)
    folder /= "tutorial"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        small = preset("full").replace(epochs=1, ranker_epochs=1, embedding_dim=32)
        train(folder / "shop.dataset", folder / "shop.bundle", small)
    return printed, folder


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


def asks_the_bundle(words: list[str]) -> bool:
    return words[0] in ("evaluate", "recommend")


def test_the_commands_that_ask_the_bundle_run(
    shop: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(shop[1])
    asked = [words for block in tutorial()[1] if block.kind == "sh" for words in commands(block.text)]
    statuses = [main(words) for words in filter(asks_the_bundle, asked)]
    assert statuses == [0, 0]
    assert_answers(capsys.readouterr().out)


def assert_answers(printed: str) -> None:
    assert "co-occurrence + repeats" in printed
    assert len(re.findall(r"^ +\d +-?[\d.]+  item-\d+  \(.+\)$", printed, re.M)) == 5  # with their reasons


@pytest.mark.long(caught="the tests around it, with a smaller bundle; tests/service and tests/cli")
def test_the_tutorial_runs(said: tuple[str, Path]) -> None:
    printed, folder = said
    assert (folder / "shop.bundle/manifest.json").exists()
    assert_answers(printed)
    assert '"items":["item-' in printed.replace(" ", "")


@pytest.mark.parametrize("shown", [block for block in tutorial()[1] if block.kind == "text"], ids=lambda b: b.text[:12])
def test_what_the_tutorial_shows_is_printed(shop: tuple[str, Path], shown: Block) -> None:
    printed = {line.strip() for line in shop[0].splitlines()}
    assert [line for line in shown.text.splitlines() if line.strip() not in printed] == []


@pytest.mark.parametrize("page", [DOCS / "tutorial.md", *HOW_TO], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(shop: tuple[str, Path], page: Path) -> None:
    together = "".join(block.text for block in blocks(page) if block.kind == "python")  # a page is one session
    run(script([Block("python", together)]), shop[1])
