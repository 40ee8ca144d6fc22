"""The clients of libmtaw: small forms of `make clients`, and the examples of their READMEs."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from mtaw_fast.cli.config import library_file
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.recommender import Recommender
from tests.clients.compare import BUNDLES, CLIENTS, COMMANDS, CannotRunError, compare, go_environment
from tests.libmtaw.test_answers import saved
from tests.libmtaw.test_interface import printed
from tests.support.random_bundle import bundle_parts, save_parts

SESSIONS = 1600  # four batches: every way of asking


def command_or_skip(name: str, folder: Path) -> list[str]:
    try:
        return COMMANDS[name](folder)
    except CannotRunError as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_lists_equal_those_of_the_package(name: str, tmp_path: Path) -> None:
    command = command_or_skip(name, tmp_path)
    for kind in BUNDLES:
        assert "all lists equal" in compare(name, command, saved(tmp_path / kind, kind), SESSIONS)


@pytest.mark.slow
def test_the_node_client_has_its_calls(tmp_path: Path) -> None:
    command_or_skip("node", tmp_path)
    bundle = saved(tmp_path / "bundle", "withheld")
    rec = Recommender.load(bundle)
    script = Path(__file__).with_name("calls.js")
    parts = bundle_parts(n_items=8)
    parts["ids"] = ItemIds.from_list([f"é-{i}" if i % 2 else f"a\0é-{i}" for i in range(8)])
    save_parts(tmp_path / "zeros", **parts)
    folders = map(str, (CLIENTS / "node", bundle, tmp_path / "log", tmp_path / "zeros"))
    environment = os.environ | {"MTAW_LIBRARY": str(library_file())}
    *lines, reasons = printed("node", script, *folders, env=environment).splitlines()
    items, similar, ruled = (line.split(" ") for line in lines)
    assert items == rec.recommend(["sku-1"], 6, exclude=["sku-2"], exclude_seen=True).items
    assert similar == rec.similar_items("sku-1", 4, by="sessions").items
    assert ruled == rec.recommend(["sku-1"], 5, rules={"filter": "price < 8"}).items
    expected = rec.recommend(["sku-1", "sku-7"], 90, reasons=True).reasons or []
    assert json.loads(reasons) == [{"kind": entry.kind, "items": list(entry.items)} for entry in expected]
    assert {entry.kind for entry in expected} == {"session", "together", "encoder"}


@pytest.mark.slow
def test_the_go_client_has_its_calls(tmp_path: Path) -> None:
    command_or_skip("go", tmp_path)
    environment = go_environment() | {"MTAW_BUNDLE": str(saved(tmp_path / "bundle", "withheld"))}
    printed("go", "test", "-count=1", ".", env=environment, cwd=CLIENTS / "go")


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_readme_runs(name: str, tmp_path: Path) -> None:
    command_or_skip(name, tmp_path)
    text = (CLIENTS / name / "README.md").read_text()
    (command,) = [shlex.split(line) for line in re.findall(r"^(?:go run|node) .*$", text, re.MULTILINE)]
    bundle = saved(tmp_path / "bundle", "withheld")
    command = [str(bundle) if part.endswith("shop.bundle") else part for part in command]
    environment = go_environment() | {"MTAW_LIBRARY": str(library_file())}
    lines = [line.split() for line in printed(*command, env=environment, cwd=CLIENTS / name).splitlines()]
    expected = Recommender.load(bundle).recommend(["sku-9", "sku-4"], 5, exclude_seen=True)
    assert [line[1] for line in lines] == expected.items
    assert [line[2] for line in lines] == [f"{score:.4f}" for score in expected.scores]
