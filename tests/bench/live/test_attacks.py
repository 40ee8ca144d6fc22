"""The search for attacks, on a toy shop: it reports every attack, and finds what a broken guard lets through."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("rich", reason="bench.live needs the extra 'train'")

from bench.live import attacked_shop, attacks
from bench.live.attacked_shop import Shop
from bench.live.inputs import make_shop
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits

_ITEMS = 1_200


@pytest.fixture(scope="module")
def model() -> Model:
    toy = make_shop(_ITEMS, 12_000, 10).model
    return Model.of(
        config=toy.config, weights=toy.weights, ids=ItemIds.from_list([f"item-{n + 1}" for n in range(_ITEMS)]),
        popularity=toy.popularity, memory=toy.memory, ranker_net=toy.ranker_net,
    )  # fmt: skip


def _shop(model: Model) -> Shop:
    return Shop(model, 1_000, LearningLimits(), seed=0, n_items=_ITEMS)


def test_the_quick_form_reports_every_attack_and_says_of_each_aim_whether_it_is_met(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(attacks, "trained_shop", lambda _: model)
    monkeypatch.setattr(attacks, "at_rate", lambda model, _: model)
    monkeypatch.setattr(attacks, "Shop", lambda model, *rest: Shop(model, *rest, n_items=_ITEMS))
    assert attacks.main(["--quick", "--shops", "1000", "--trials", "4", "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    found = {
        (row["sessions"], row["origins"], row["only"], row["objective"]) for row in rows if row["case"] == "attack"
    }
    cases = [(1, 1, ", again and again"), (1, 1, ", one visit"), (1, 1, ""), (10, 1, ""), (10, 10, "")]
    assert found == {(*case, objective) for case in cases for objective in attacks.OBJECTIVES}
    (aims,) = (row["aims"] for row in rows if row["case"] == "aims")
    printed = capsys.readouterr().out
    for aim, met in aims.items():
        assert f"aim {'met' if met else 'NOT met'}: {aim}" in printed


def test_the_search_finds_more_without_a_guard_by_origin(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def worst() -> int:
        return attacks.search(_shop(model), 30, False, 6, seed=0)["visitors"][1].visitors

    guarded = worst()

    def unjudged(_: object, origin: bytes, clicks: Sequence[Click], usual: object, now: int) -> list[Click]:
        return list(clicks)

    monkeypatch.setattr(attacked_shop.OriginGuard, "judged", unjudged)
    assert worst() < guarded / 2


def test_equal_seeds_find_equal_attacks_and_none_starts_in_the_first_ranks(model: Model) -> None:
    shop = _shop(model)
    assert min(min(ranks) for ranks in shop.before) > 500
    assert attacks.search(shop, 3, True, 6, seed=1) == attacks.search(_shop(model), 3, True, 6, seed=1)
    assert shop.baseline == (1.0, 1.0)
