"""Rules that are kept by name: where they are stored, and what happens when their columns go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

RULES = {"filter": 'brand == "own"', "limit": {"per": "brand", "most": 3}}
TABLE = [{"id": f"sku-{i}", "brand": ("own", "x")[i % 2]} for i in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_parts(tmp_path / "bundle", **(bundle_parts() | memory_parts()))
    return tmp_path / "bundle"


def kept(rec: Recommender) -> Any:
    return rec.recommend(["sku-1", "sku-2"], 9, rules="summer")


def test_in_one_process(folder: Path, tmp_path: Path) -> None:
    rec = Recommender.load(folder)
    rec.set_items(TABLE)
    with pytest.raises(UsageError, match="no rules are kept under the name 'summer'; there are: none"):
        kept(rec)
    rec.set_rules("summer", RULES)
    assert kept(rec) == rec.recommend(["sku-1", "sku-2"], 9, rules=RULES)
    assert kept(rec).short == "rules"
    assert rec.kept_rules == {"summer": RULES}
    # A bundle can hold them.
    save_parts(tmp_path / "other", **(bundle_parts() | memory_parts()), items=rec.items)
    assert Bundle.load(tmp_path / "other").items.rules == {"summer": RULES}
    assert kept(Recommender.load(tmp_path / "other")).items == kept(rec).items
    # A column of theirs goes, and comes back.
    report = rec.set_items([{"id": "sku-1", "price": 3.0}])
    assert any(note.startswith("rules 'summer': filter: the items have no column 'brand'") for note in report.notes)
    with pytest.raises(UsageError, match="rules 'summer': filter: the items have no column 'brand'"):
        kept(rec)
    rec.set_items(TABLE)
    assert kept(rec).items
    assert rec.broken_rules == {}
    rec.set_rules("summer", None)
    with pytest.raises(UsageError):
        kept(rec)
    with pytest.raises(UsageError, match="no rules are kept"):
        rec.set_rules("summer", None)
    with pytest.raises(UsageError, match="a name has"):
        rec.set_rules("../x", RULES)
    with pytest.raises(UsageError, match="rules 'winter': filter: the items have no column 'brnd'"):
        rec.set_rules("winter", {"filter": "brnd == 'x'"})


@pytest.mark.parametrize("keeper", ["learn", "state"])
def test_over_a_restart(folder: Path, tmp_path: Path, keeper: str) -> None:
    options: dict[str, Any] = {keeper: tmp_path / "kept"}
    rec = Recommender.load(folder, **options)
    rec.set_items(TABLE)
    rec.set_rules("summer", RULES)
    rec.set_rules("winter", {"pin": {"sku-1": 1}})
    rec.set_rules("winter", None)
    expected = kept(rec)
    rec.close()
    restarted = Recommender.load(folder, **options)
    assert restarted.kept_rules == {"summer": RULES}
    assert kept(restarted).items == expected.items
    restarted.close()


def test_on_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rec = Recommender.load(folder)
    rec.set_items(TABLE)
    save_parts(tmp_path / "b", **(bundle_parts() | memory_parts()), items=rec.items)
    (tmp_path / "rules.json").write_text(json.dumps(RULES))
    arguments = ["recommend", str(tmp_path / "b"), "sku-1", "sku-2", "--rules", str(tmp_path / "rules.json"), "-k", "9"]
    assert main([*arguments, "--json"]) in (0, None)
    answer = json.loads(capsys.readouterr().out)
    assert answer["items"] == rec.recommend(["sku-1", "sku-2"], 9, rules=RULES).items
    assert answer["short"] == "rules"
    assert main([*arguments, "--reasons"]) in (0, None)
    assert "the rules leave no more than 3 items of 9" in capsys.readouterr().out
    (tmp_path / "rules.json").write_text('{"filter": "brnd == 3"}')
    assert main(arguments) == 2
    assert "no column 'brnd' (character 1)" in capsys.readouterr().err
