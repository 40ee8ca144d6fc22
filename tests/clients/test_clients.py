"""The clients of libmtaw: small forms of `make clients`, and the examples of their READMEs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from mtaw_fast.cli.config import library_file
from mtaw_fast.recommender import Recommender
from tests.clients.compare import BUNDLES, CLIENTS, COMMANDS, CannotRunError, compare
from tests.libmtaw.test_answers import saved

SESSIONS = 1600  # four batches: every way of asking


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_lists_equal_those_of_the_package(name: str, tmp_path: Path) -> None:
    try:
        command = COMMANDS[name](tmp_path)
    except CannotRunError as reason:
        pytest.skip(str(reason))
    for kind in BUNDLES:
        assert "all lists equal" in compare(name, command, saved(tmp_path / kind, kind), SESSIONS)


@pytest.mark.slow
def test_the_node_client_has_its_calls(tmp_path: Path) -> None:
    try:
        COMMANDS["node"](tmp_path)
    except CannotRunError as reason:
        pytest.skip(str(reason))
    bundle = saved(tmp_path / "bundle", "withheld")
    rec = Recommender.load(bundle)
    script = Path(__file__).with_name("calls.js")
    command = ["node", str(script), str(CLIENTS / "node"), str(bundle), str(tmp_path / "log")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env={"MTAW_LIBRARY": str(library_file()), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    items, similar, ruled = (line.split(" ") for line in done.stdout.splitlines())
    assert items == rec.recommend(["sku-1"], 6, exclude=["sku-2"], exclude_seen=True).items
    assert similar == rec.similar_items("sku-1", 4, by="sessions").items
    assert ruled == rec.recommend(["sku-1"], 5, rules={"filter": "price < 8"}).items


@pytest.mark.parametrize("name", COMMANDS)
def test_a_readme_runs_the_example_that_there_is(name: str) -> None:
    text = (CLIENTS / name / "README.md").read_text()
    commands = [shlex.split(line) for line in re.findall(r"^(?:go run|node) .*$", text, re.MULTILINE)]
    assert commands
    for command in commands:
        file = command[2] if command[0] == "go" else command[1]
        assert (CLIENTS / name / file).exists(), file
