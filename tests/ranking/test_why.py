"""Explanations: each gate stands alone between an item and the next gate or the list, and parts add up to scores."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemFrame
from mtaw_fast.memory import RankerNet
from mtaw_fast.ranking.options import options_of, with_types
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan
from mtaw_fast.ranking.why import Explanation
from mtaw_fast.ranking.why.worth import groups_of
from mtaw_fast.recommender import Recommender
from tests.rules.test_ruled_rankings import Shop
from tests.support.ranking.timed_model import END, HOUR, N, timed_model
from tests.support.ranking.typed_model import typed_model
from tests.support.rules.random_rules import as_text

CASES = 25


def check_parts(explanation: Explanation) -> None:
    """The parts add up to the score, which is a float32."""
    if explanation.parts:
        assert explanation.score == float(np.float32(math.fsum(part.worth for part in explanation.parts)))


def undone(
    explanation: Explanation, rules: dict[str, Any], options: dict[str, Any], k: int, n_items: int
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the call without the gate that stopped an item."""
    gate, item = explanation.gate, explanation.item
    assert gate is not None
    rules, options = dict(rules), dict(options)
    if gate.kind == "excluded":
        options["exclude"] = [other for other in options["exclude"] if other != item]
    elif gate.kind == "not allowed":
        options["allow"] = [*options["allow"], item]
    elif gate.kind == "seen":
        options["exclude_seen"] = False
    elif gate.kind == "rule filter":
        failed = str(gate.rule)
        assert any(failed in condition for condition in rules["filter"])
        rules["filter"] = [condition for condition in rules["filter"] if failed not in condition]
    elif gate.kind == "filter":
        del options["filter"]
    elif gate.kind in ("limit", "diversify"):  # the one that is named, alone
        others = [entry for entry in listed(rules[gate.kind]) if not str(gate.rule).startswith(said_of(entry))]
        assert len(others) < len(listed(rules[gate.kind]))
        rules[gate.kind] = others
    elif gate.kind == "pinned over":  # one of the pins that are named, alone
        assert all(str(taken) in rules["pin"] for taken in gate.items)
        rules["pin"] = {pinned: at for pinned, at in rules["pin"].items() if pinned != str(gate.items[-1])}
    else:
        assert gate.kind in ("ranked", "not ranked", "no candidate")
        k = gate.position or n_items
    return rules, options, k


def listed(entries: Any) -> list[Any]:
    return entries if isinstance(entries, list) else [entries]


def said_of(limit: dict[str, Any]) -> str:
    of = f" of any {limit['of']}" if "of" in limit else ""
    return f"at most {limit['most']}{of} with the {limit['per']} "


@pytest.mark.parametrize("kind", ["text-ids", "int-ids", "memory", "times", "few ranked"])
@pytest.mark.parametrize("index", ["native", "numpy"])
def test_gates_stand_alone_and_parts_add_up(tmp_path: Path, kind: str, index: str) -> None:
    shop = Shop(tmp_path / "bundle", kind, "native", index, seed=len(kind + index))
    kinds = set()
    for case in range(CASES):
        if case % 10 == 9:
            shop.change()
        session, options, rules, k = shop.request()
        k = min(k, 20)
        if case % 4 == 3:
            options["filter"] = shop.rec.filter(exclude=list(shop.rows)[case % 5 :: 5])
        written = as_text(rules)
        if isinstance(written.get("filter"), str):
            written["filter"] = [written["filter"]]
        out = shop.rec.recommend(session, k, rules=written, **options)
        why = shop.rec.why(session, [*out.items, *list(shop.rows)[case % 7 :: 7]], k, rules=written, **options)
        assert why.answer == out
        for place, explanation in enumerate(why.items[: len(out)], 1):
            assert explanation.position == place
            assert explanation.gate is None
            if "neighbor's score" not in explanation.sentence:
                assert explanation.score == float(out.scores[place - 1])
            check_parts(explanation)
        for explanation in why.items[len(out) :]:
            check_parts(explanation)
            if explanation.gate is None:
                assert explanation.item in out.items
                continue
            kinds.add(explanation.gate.kind)
            assert explanation.gate.items or explanation.gate.kind not in ("limit", "diversify", "pinned over")
            assert explanation.item not in out.items
            if explanation.gate.kind == "removed":
                continue
            fewer, others, depth = undone(explanation, written, options, k, shop.rec.n_items)
            after = shop.rec.why(session, [explanation.item], depth, rules=fewer, **others)
            then = after.items[0]
            assert then.gate is None or (then.gate.kind, then.gate.text) != (
                explanation.gate.kind,
                explanation.gate.text,
            ), (explanation, written, session, options, k)
            several = {
                "rule filter": 1,
                "limit": len(listed(written.get("limit", []))),
                "diversify": len(listed(written.get("diversify", []))),
                "pinned over": len(explanation.gate.items),
            }
            again = then.gate is not None and then.gate.kind == explanation.gate.kind
            assert not again or several.get(explanation.gate.kind, 0) > (explanation.gate.kind != "rule filter")
            assert (then.position is not None) == (then.item in after.answer.items)
    assert {"rule filter", "limit", "ranked"} <= kinds or kind == "few ranked", kinds
    assert {"filter", "excluded"} <= kinds, kinds


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Few candidates of many are ranked."""
    return Shop(tmp_path / "bundle", "few ranked", "native", "native", seed=1)


def gate_of(rec: Recommender, session: list[Any], item: Any, k: int = 5, **options: Any) -> str:
    explanation = rec.why(session, [item], k, **options).items[0]
    assert (explanation.gate is None) == (explanation.position is not None)
    return "" if explanation.gate is None else explanation.gate.kind


def test_names_what_withholds_an_item(shop: Shop) -> None:
    rec, at = shop.rec, shop.always
    session = list(shop.rows)[:2]
    best = rec.recommend(session, 1, **at).items[0]
    assert gate_of(rec, session, best, **at) == ""
    assert gate_of(rec, session, best, **at, exclude=iter([best])) == "excluded"
    assert gate_of(rec, session, best, **at, allow=iter(session)) == "not allowed"
    assert gate_of(rec, session, best, **at, filter=rec.filter(exclude=[best])) == "filter"
    assert gate_of(rec, [best], best, **at, exclude_seen=True) == "seen"
    rec.hide([best])
    assert gate_of(rec, session, best, **at) == "hidden"
    rec.show([best])
    assert gate_of(rec, session, best, **at) == ""
    for is_there, gate in ((False, "not available"), (True, "")):
        frame = ItemFrame.of([{"id": best, "in stock": is_there}], kinds={"in stock": "boolean"})
        rec.set_items(frame, availability="in stock")
        assert gate_of(rec, session, best, **at) == gate
    assert gate_of(rec, session, "nobody's", rec.n_items + 1, **at) == "unknown"
    rec.add_items(["nobody's"], vectors=shop.rng.normal(size=(1, shop.d)))
    assert gate_of(rec, session, "nobody's", rec.n_items, **at) == ""
    rec.remove_items([best])
    assert gate_of(rec, session, best, **at) == "removed"


def test_one_limit_alone_and_one_pin_alone_let_an_item_in(shop: Shop) -> None:
    rec, at = shop.rec, shop.always
    session = list(shop.rows)[:2]
    best = rec.recommend(session, 8, **at).items
    rec.set_items([{"id": item, "one": "a", "two": "a"} for item in best[:6]], "patch")
    limits = [{"per": "one", "most": 3}, {"per": "two", "most": 4}]
    for rules, kept in ((limits, limits[1:]), (limits[1:], [])):
        gate = rec.why(session, [best[4]], 5, rules={"limit": rules}, **at).items[0].gate
        assert gate is not None
        assert (gate.kind, str(gate.rule).split(" with")[0]) == ("limit", f"at most {rules[0]['most']}")
        assert gate_of(rec, session, best[4], rules={"limit": kept}, **at) == ("limit" if kept else "")
    pins = {best[6]: 1, best[7]: 2}
    for item, kept in ((best[4], [best[6]]), (best[3], [])):
        gate = rec.why(session, [item], 5, rules={"pin": pins}, **at).items[0].gate
        assert gate is not None
        assert (gate.kind, list(gate.items)) == ("pinned over", list(pins))
        pins = {pinned: pins[pinned] for pinned in kept}
        assert gate_of(rec, session, item, rules={"pin": pins}, **at) == ("pinned over" if item == best[4] else "")
        pins = {best[6]: 1, best[7]: 2}


def test_a_candidate_without_the_rankers_score_gets_it_by_a_boost(shop: Shop) -> None:
    rec, at = shop.rec, shop.always
    session = list(shop.rows)[:1]
    why = rec.why(session, list(rec.ids), 1, **at)
    unranked = [explanation for explanation in why.items if explanation.gate and explanation.gate.kind == "not ranked"]
    assert unranked
    for explanation in unranked[:5]:
        gate = explanation.gate
        assert gate is not None
        assert gate.score is not None
        assert gate.needed is not None
        assert gate.score <= gate.needed
        assert any(source.brought for source in explanation.sources)
        rec.set_items([{"id": explanation.item, "chosen": True}])
        boosted = {"boost": {"when": "chosen", "by": 1e-6}}
        after = rec.why(session, [explanation.item], 1, rules=boosted, **at).items[0]
        assert after.rank is not None
        assert after.gate is None or after.gate.kind == "ranked"
        rec.set_items([{"id": explanation.item, "chosen": False}])


def test_exploration_is_named_and_not_counted(shop: Shop) -> None:
    rec, at = shop.rec, shop.always
    rec.add_items([f"late-{n}" for n in range(8)], vectors=shop.rng.normal(size=(8, shop.d)))
    session = list(shop.rows)[:2]
    plain = rec.recommend(session, 8, **at).items
    why = rec.why(session, plain, 8, explore=0.5, explore_below=3, explore_seed=1, **at)
    kinds = [explanation.gate.kind if explanation.gate else "" for explanation in why.items]
    assert "explored over" in kinds
    assert all(gate_of(rec, session, item, 8, **at) == "" for item in plain)  # without exploration
    assert any("new, with 0 clicks" in explanation.sentence for explanation in rec.why(session, rec.ids, 1, **at).items)
    for _ in range(5):
        assert rec.why(session, plain, 8, explore=0.5, explore_below=3, explore_seed=1, **at).answer == why.answer
    out = rec.recommend(session, 8, explore=0.5, explore_below=3, explore_seed=1, **at)
    assert out == why.answer
    assert out.explored is not None
    for explanation in rec.why(session, out.items, 8, explore=0.5, explore_below=9, **at).items:
        check_parts(explanation)


def test_worths_are_the_rankers_scores_without_each_group(tmp_path: Path) -> None:
    Bundle.save(tmp_path / "bundle", typed_model(), metrics={}, dataset={"name": "types", "fingerprint": "x"})
    rec = Recommender.load(tmp_path / "bundle")
    session, types = [f"sku-{n}" for n in (12, 30, 12)], ["view", None, "cart"]
    call: dict[str, Any] = {"at": END + HOUR, "context": {"referrer": "mail", "region": "north"}}
    net, pipeline = rec.bundle.model.ranker_net, rec._pipeline
    assert isinstance(net, RankerNet)
    assert pipeline.ranker.ranker_net is not None
    catalog = pipeline.catalog
    options = with_types(options_of(catalog, rec.n_items, **call), catalog, types)
    _, _, _, arrays = pipeline.ranker.trace(catalog.ids.lookup(session), options)
    features = arrays["features"].reshape(len(arrays["ranked"]), -1)
    assert (pipeline.ranker.ranker_net.scores(features) == arrays["scores"]).all()
    groups = groups_of(net.features)
    assert len(groups) == 10  # all that there are
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(len(net.features)))
    rows = [0, *np.argsort(arrays["scores"])[-2:].tolist()]  # the first is in the session
    items = catalog.ids.external(arrays["ranked"][rows])
    why = rec.why(session, items, types=types, **call)
    assert why.answer == rec.recommend(session, types=types, **call)
    for row, explanation in zip(features[rows].astype(np.float64), why.items, strict=True):
        check_parts(explanation)
        worths = {part.name: part.worth for part in explanation.parts}
        for name, columns in groups.items():
            without = row.copy()
            without[columns] = net.mean[columns]
            score, rest = net.scores(row).item(), net.scores(without).item()
            assert worths[name] == pytest.approx(score - rest, rel=1e-3, abs=1e-4 * (abs(score) + abs(rest)) + 1e-4)
    with pytest.raises(ValueError, match="features, not 2"):
        pipeline.ranker.ranker_net.scores(np.zeros((1, 2), np.float32))


def test_counts_the_sessions_that_speak_for_an_item(tmp_path: Path) -> None:
    model = timed_model()
    Bundle.save(tmp_path / "bundle", model, metrics={}, dataset={"name": "times", "fingerprint": "x"})
    rec = Recommender.load(tmp_path / "bundle")
    past = [set(session.tolist()) for session in model.sessions]
    for item, clicks in ((7, [3, 20]), (12, [7, 3, 40]), (30, [31])):
        explanation = rec.why([f"sku-{click}" for click in clicks], [f"sku-{item}"], N, at=END + HOUR).items[0]
        counts = {click: sum({item, click} <= session for session in past) for click in clicks if click != item}
        said = re.search("clicked together with (.*) past sessions", explanation.sentence)
        assert {click for click in counts if counts[click]} == (
            {int(text) for text in re.findall(r"sku-(\d+) in", said[1])} if said else set()
        )
        for click, count in counts.items():
            assert not count or f"sku-{click} in {count}" in explanation.sentence


def test_compares_a_call_with_a_changed_one(shop: Shop) -> None:
    rec, at = shop.rec, shop.always
    session = list(shop.rows)[:3]
    best = rec.recommend(session, 8, **at).items
    changes: list[dict[str, Any]] = [
        {"without": session[2:]}, {"rules": {"pin": {best[5]: 1}}}, {"exclude": best[:2]}, {"k": 5},
        {"at": at["at"] - HOUR},
    ]  # fmt: skip
    for change in changes:
        compared = rec.what_if(session, 8, change=change, **at)
        call = {"k": 8, **at, **change}
        without = call.pop("without", ())
        kept = [item for item in session if item not in without]
        assert compared.before == rec.recommend(session, 8, **at)
        assert compared.after == rec.recommend(kept, **call)
        assert [move.item for move in compared.moves if move.after] == compared.after.items
        assert {move.item for move in compared.moves if move.before} == set(compared.before.items)
        for move in compared.moves:
            moved = move.before is None or move.after is None
            assert (move.why is not None) == moved
            if move.why is not None:
                assert (move.why.gate is None) == (move.after is not None)
        assert ("(came)" in str(compared)) == any(move.before is None for move in compared.moves)
    assert "Nothing moves" in str(rec.what_if(session, 8, **at))
    assert rec.what_if([*session, "nobody's"], types=[None] * 4, change={"without": ["nobody's"]}, **at).moves
    other = rec.what_if(session, 8, other=Recommender.load(rec.bundle.folder), **at)
    assert other.after == Recommender.load(rec.bundle.folder).recommend(session, 8, **at)
    with pytest.raises(UsageError, match="no option 'rule'"):
        rec.what_if(session, change={"rule": {}})


def test_an_approximate_index_is_explained_by_what_it_found(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    from mtaw_fast.export.index_build import build

    shop = Shop(tmp_path / "bundle", "memory", "native", "numpy", seed=3)
    vectors = shop.rec.bundle.item_vectors
    graph = build("hnsw", vectors, 0, lambda _: None)[0]
    shop.rec._served.index = AnnIndex(vectors, graph, SearchPlan("hnsw", 200, 2), shop.rec.index)
    shop.rec._served.update(lambda catalog: catalog)
    for _ in range(10):
        session, options, rules, k = shop.request()
        call = {"k": min(k, 20), "rules": as_text(rules), **options}
        why = shop.rec.why(session, list(shop.rows), **call)
        assert why.answer == shop.rec.recommend(session, **call)
        for explanation in why.items:
            assert (explanation.gate is None) == (explanation.position is not None)
            check_parts(explanation)
