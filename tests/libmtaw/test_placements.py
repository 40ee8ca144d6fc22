"""Rules by placement in libmtaw: the sets, rankings and refusals of the package."""

from __future__ import annotations

import ctypes
import json
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.items.placements import Revision
from mtaw_fast.recommender import Recommender
from mtaw_fast.rules.placement import PlacementTable
from tests.support.libmtaw import BUNDLE, NOW, USAGE, CallError, Client, call, library
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.rules.random_rules import random_rows, table_of

N = 30
DAY = 86_400_000
BEGIN = 1_796_083_200_000  # 2026-12-01
RULES: tuple[Any, ...] = (
    {}, {"pin": {"sku-9": 1}}, {"filter": "price < 5"}, {"limit": {"per": "brand", "most": 2}},
    {"boost": {"when": "price <= current.price", "by": 2}}, {"filter": "nothing == 1"},
)  # fmt: skip
WRONG: tuple[tuple[str, Any], ...] = (
    ("from", "yesterday"), ("from", 1.5), ("until", True), ("until", 1_796_083_200), ("from", str(1 << 70)),
    ("from", 1 << 70), ("until", []), ("share", 0), ("share", 1.5), ("share", True), ("share", "1"), ("name", None),
    ("name", "a b"), ("name", "x" * 65), ("name", 3), ("begin", 1), ("rules", None), ("rules", "sale"),
    ("rules", {"filtre": "sale"}), ("rules", {"filter": "price <"}), ("rules", {"filter": " " * 4090}),
    ("rules", {"filter": "é" * 2100}),
)  # fmt: skip


def random_moment(rng: np.random.Generator) -> Any:
    """Return a time near those of the requests as it may be written."""
    moment = BEGIN + int(rng.integers(0, 8)) * DAY // 2
    text = str(np.datetime64(moment, "ms"))[:19]
    return (moment, str(moment), text, f"{text}+00:00", text[:10], None)[rng.integers(6)]


def random_content(rng: np.random.Generator) -> dict[str, Any]:
    """Return the sets of a placement, mostly right."""
    sets = []
    for _ in range(rng.integers(0, 6)):
        one: dict[str, Any] = {"rules": RULES[rng.integers(len(RULES) if rng.random() < 0.1 else len(RULES) - 1)]}
        if rng.random() < 0.5:
            one["share"] = round(float(rng.random()), 2) * 0.6 + 0.01
        one |= {key: random_moment(rng) for key in ("from", "until") if rng.random() < 0.25}
        if rng.random() < 0.3:
            one["name"] = str(rng.choice(["a", "b-1", "Base", "x" * 64]))
        if rng.random() < 0.06:
            key, value = WRONG[rng.integers(len(WRONG))]
            one[key] = value
        sets.append(one)
    content: dict[str, Any] = {"sets": sets}
    if rng.random() < 0.1:
        content["together"] = bool(rng.integers(2))
    return content


def damaged_contents() -> Iterator[dict[str, Any]]:
    """Yield each wrong value, and contents that are no list of sets."""
    for key, value in WRONG:
        yield {"sets": [{"rules": {}, key: value}]}
    yield {}
    yield {"sets": {}}
    yield {"sets": [3]}
    yield {"sets": [{"rules": {}}] * 17}
    yield {"sets": [], "together": None}
    yield {"sets": [], "at_once": True}
    yield {"sets": [{"rules": {}, "name": "a"}] * 2}
    yield {"sets": [{"rules": {}, "share": 0.7}, {"rules": {}, "share": 0.4, "from": BEGIN}]}
    yield {"sets": [{"rules": {}, "from": "2026-12-02", "until": "2026-12-01"}]}


def table_with(contents: dict[str, Any]) -> ItemTable:
    ids = [f"sku-{i}" for i in range(N)]
    table = table_of(ids, random_rows(np.random.default_rng(8), N))
    # The last revision is in force.
    kept = {name: (Revision(1, 5, {"sets": []}), Revision(2, 6, content)) for name, content in contents.items()}
    return replace(table, placements=kept)


def saved_with(folder: Path, contents: dict[str, Any]) -> Path:
    save_parts(folder, **bundle_parts(n_items=N), **memory_parts(N), items=table_with(contents))
    return folder


def line_of(error: Exception) -> str:
    """Return a refusal, values as JSON has them. What repeats a character ends there: each cuts it elsewhere."""
    return re.sub(r"(.)\1{30}.*", r"\1", str(error)).replace("True", "true").replace("None", "null").replace('"', "'")


def expected_of(placements: PlacementTable, table: ItemTable, name: str, at: int | None, session: str | None) -> Any:
    """Return the name of the set that the package chooses, None without one, or the refusal."""
    try:
        placed = placements.placed(name, at, session)
        if placed.rules is not None:
            placed.rules.check(table)
    except UsageError as error:
        return [line_of(error)]
    return placed.name or None


def found_by(client: Client, **options: Any) -> Any:
    try:
        return client.recommend([], 1, **options).rule_set
    except CallError as error:
        return [line_of(error)] if error.status == USAGE else error.status


@pytest.mark.parametrize("with_default", [True, False])
def test_the_sets_are_those_of_the_package(with_default: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(7 + with_default)
    contents = {f"place-{number}": random_content(rng) for number in range(150)}
    contents |= {f"damaged-{number}": content for number, content in enumerate(damaged_contents())}
    contents["y" * 64] = {"sets": [{"rules": {}, "share": 2}]}
    if with_default:
        contents["default"] = {"sets": [{"rules": {}, "share": 0.5, "name": "half"}]}
    names = [*contents, "unknown", "", "a b", "ä", "z" * 65]
    table = table_with(contents)
    placements, found, refused = PlacementTable(table), set(), 0
    with Client(saved_with(tmp_path / "bundle", contents)) as client:
        for number in range(3000):
            name = names[number % len(names)]
            at = BEGIN + int(rng.integers(-1, 9)) * DAY // 2 - int(rng.integers(0, 2))
            letters = rng.integers(32, 0x2FF, rng.integers(0, 300) if number % 5 == 0 else rng.integers(0, 9))
            session = None if number % 11 == 0 else "".join(map(chr, letters.tolist()))
            expected = expected_of(placements, table, name, at, session)
            assert found_by(client, placement=name, session_id=session, at=at) == expected, (
                contents.get(name),
                session,
            )
            refused += isinstance(expected, list)
            found |= {expected} if isinstance(expected, str) else set()
    assert len(found) > 5
    assert refused > 300
    assert ("half" in found) == with_default


def test_rankings_in_all_ways(tmp_path: Path) -> None:
    shared = [{"rules": rules, "share": 0.2, "name": f"s-{number}"} for number, rules in enumerate(RULES[:4])]
    sets = [*shared, {"rules": RULES[4], "name": "rest"}]
    folder = saved_with(tmp_path / "bundle", {"cart": {"sets": sets}, "none": {"sets": []}})
    rec, chosen = Recommender.load(folder, encoder="native", index="native"), set()
    session = ["sku-3", "sku-7", "nobody"]
    with Client(folder) as client:
        for number in range(40):
            options: dict[str, Any] = {"placement": ("cart", "none")[number % 8 == 7], "session_id": f"s-{number}"}
            answer = client.recommend(session, 9, reasons=True, **options)
            assert answer.equals(rec.recommend(session, 9, reasons=True, **options), session)
            assert answer.rule_set == (
                rec.catalog.placements.placed(options["placement"], None, f"s-{number}").name or None
            )
            chosen.add(answer.rule_set)
            for one in client.recommend_batch([session, []], 9, **options):
                assert one.rule_set == answer.rule_set
            visit = client.session().click(*session)
            assert visit.recommend(9, reasons=True, **options).items == answer.items
            visit.close()
            similar = client.similar("sku-3", 9, **options)
            assert similar.equals(rec.similar_items("sku-3", 9, **options))
            assert similar.rule_set == answer.rule_set
        assert client.recommend(session, 9).rule_set is None
    assert chosen == {"s-0", "s-1", "s-2", "s-3", "rest", None}


def test_now_and_what_is_refused(tmp_path: Path) -> None:
    now = time.time_ns() // 1_000_000
    past = {"rules": RULES[1], "name": "past", "until": now}
    content = {"sets": [past, {"rules": RULES[1], "name": "today", "from": now}], "together": True}
    with Client(saved_with(tmp_path / "bundle", {"cart": content})) as client:
        assert found_by(client, placement="cart") == "today"
        assert found_by(client, placement="cart", at=NOW) == "today"
        assert found_by(client, placement="cart", at=now - DAY) == "past"
        rules = client.rules(RULES[1])
        (line,) = found_by(client, placement="cart", rules=rules)
        assert line == "rules and placement: a call has one of them; leave the other out"
        library().mtaw_rules_close(rules)
    with Client(saved_with(tmp_path / "other", {})) as client:
        assert found_by(client, placement="cart") is None
        options, _ = client._options(1, {"placement": "cart"})
        options.session_id = b"\xff"
        with pytest.raises(CallError, match="session_id is not valid Unicode; send UTF-8"):
            call("recommend", client.handle, None, 0, ctypes.byref(options), ctypes.byref(ctypes.c_void_p()))


def test_a_bundle_without_an_item_table(tmp_path: Path) -> None:
    save_parts(tmp_path / "bundle", **bundle_parts(n_items=N))
    with Client(tmp_path / "bundle") as client:
        assert found_by(client, placement="cart") is None
        assert found_by(client, placement="a b") == [
            "placement: a name has 1 to 64 letters, digits, and . _ -, not 'a b'"
        ]


@pytest.mark.parametrize(
    "revisions", [[], [3], [[1, 2]], [[1, 2, None]], [["1", 2, {"sets": []}]], "x"], ids=json.dumps
)
def test_damaged_revisions_are_refused(revisions: Any, tmp_path: Path) -> None:
    table = table_with({})
    object.__setattr__(table, "placements", {"cart": revisions})
    with pytest.raises(BundleError, match="the item table is damaged \\(placement 'cart'\\)"):
        save_parts(tmp_path / "bundle", **bundle_parts(n_items=N), items=table)
    with pytest.raises(CallError, match="the item table is damaged \\(placement 'cart'\\)") as refused:
        Client(tmp_path / "bundle")
    assert refused.value.status == BUNDLE
