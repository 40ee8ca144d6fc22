"""`mtaw-fast why`: the sentences and tables of a call, and of a call next to a changed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtaw_fast.cli import main
from mtaw_fast.recommender import Recommender
from tests.support.cli import failure
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why") / "bundle"
    save_parts(folder, **bundle_parts(), **memory_parts())
    return folder


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["why", *words]) == 0
    return capsys.readouterr().out


def test_prints_what_the_recommender_says(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = [str(folder), "--session", "sku-1", "sku-2", "-k", "5", "--exclude", "sku-3"]
    rec = Recommender.load(folder)
    items = [*rec.recommend(["sku-1", "sku-2"], 5, exclude=["sku-3"]).items[:1], "sku-3", "nobody's"]
    why = rec.why(["sku-1", "sku-2"], items, 5, exclude=["sku-3"])
    assert said(capsys, *call, "--item", *items) == f"{why}\n"
    assert json.loads(said(capsys, *call, "--item", *items, "--json")) == [
        json.loads(json.dumps(explanation.as_json())) for explanation in why.items
    ]
    assert said(capsys, *call).count(" of 5: ") == 5
    assert "no click of the session is known" in said(capsys, str(folder))


def test_prints_two_lists_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = [str(folder), "--session", "sku-1", "sku-2", "-k", "5"]
    moved = Recommender.load(folder).what_if(["sku-1", "sku-2"], 5, change={"without": ["sku-2"]})
    assert said(capsys, *call, "--without", "sku-2") == f"{moved}\n"
    answers = json.loads(said(capsys, *call, "--other-rules", '{"pin": {"sku-9": 2}}', "--json"))
    assert answers["after"]["items"][1] == "sku-9"
    assert said(capsys, *call, "--other-bundle", str(folder)) == "Nothing moves: both lists are the same.\n"


def test_refuses_what_recommend_refuses(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "k must be" in failure(["why", str(folder), "-k", "0"], 2, capsys)
