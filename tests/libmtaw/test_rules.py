"""Rules of libmtaw give the rankings of the package's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import UsageError
from mtaw_fast.recommender import Recommender
from tests.support.libmtaw import USAGE, CallError, Client, library
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.timed_model import END, HOUR, timed_model
from tests.support.rules.random_rules import as_text, random_rows, random_rules, table_of

N = 120


@pytest.fixture(scope="module", params=["text", "int"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Recommender, Client]]:
    folder: Path = tmp_path_factory.mktemp("rules") / "bundle"
    parts = bundle_parts(n_items=N, text=request.param == "text", max_session_length=8)
    if request.param == "text":
        parts |= memory_parts(N)
    parts["items"] = table_of(parts["ids"].external(np.arange(N)), random_rows(np.random.default_rng(8), N))
    save_parts(folder, **parts)
    with Client(folder) as client:
        yield Recommender.load(folder, encoder="native", index="native"), client


def check_random_rules(rec: Recommender, client: Client, at: int | None = None) -> None:
    items = list(rec.ids)
    for seed in range(120):
        rng = np.random.default_rng(seed)
        rules = as_text(random_rules(rng, items))
        session = [items[place] for place in rng.integers(0, len(items), rng.integers(0, 5))]
        options: dict[str, Any] = {"exclude_seen": bool(seed % 2), "exclude": items[:3] if seed % 3 == 0 else ()}
        if at is not None:
            options["at"] = at
        options["reasons"] = seed % 5 == 0
        handle, k = client.rules(rules), int(rng.integers(1, 25))
        expected = rec.recommend(session, k, rules=rules, **options)
        assert client.recommend(session, k, rules=handle, **options).equals(expected, session), rules
        assert client.recommend_batch([session], k, rules=handle, **options)[0].equals(expected, session)
        visit = client.session().click(*session)
        assert visit.recommend(k, rules=handle, **options).equals(expected, session)
        visit.close()
        similar = rec.similar_items(items[seed % len(items)], k, rules=rules)
        assert client.similar(items[seed % len(items)], k, rules=handle).equals(similar)
        library().mtaw_rules_close(handle)


def test_random_rules(both: tuple[Recommender, Client]) -> None:
    check_random_rules(*both)


def test_random_rules_where_the_ranker_scores_few_candidates(tmp_path: Path) -> None:
    """Own items, 5 others, and those that boosts raise."""
    model = timed_model(ranked_candidates=5)
    rows = random_rows(np.random.default_rng(8), model.n_items)
    table = table_of(model.ids.external(np.arange(model.n_items)), rows)
    Bundle.save(tmp_path / "bundle", replace(model, items=table), metrics={}, dataset={})
    with Client(tmp_path / "bundle") as client:
        rec = Recommender.load(tmp_path / "bundle", encoder="native", index="native")
        check_random_rules(rec, client, at=END + HOUR)


@pytest.mark.parametrize(
    "rules",
    [{"filtre": "sale"}, {"filter": "price < 'x'"}, {"filter": "nothing"}, {"filter": "price <"}, {"filter": 3},
     {"limit": {"per": "price", "most": 2}}, {"boost": {"when": "sale", "by": 1e7}}, {"pin": {"a": 0}}, [1], "winter",
     {"diversify": {"per": "brand", "most": 2}}, {"diversify": {"per": "brand", "most": 2, "of": 2}},
     {"filter": "sale or " * 600 + "sale"}],
    ids=json.dumps,
)  # fmt: skip
def test_wrong_rules_are_the_package_s_line(both: tuple[Recommender, Client], rules: Any) -> None:
    with pytest.raises(CallError, match=r"^rules: ") as refused:
        both[1].rules(rules)
    assert refused.value.status == USAGE
    with pytest.raises(UsageError) as expected:
        both[0].recommend([], rules=rules)
    assert str(refused.value) == str(expected.value)


@pytest.mark.parametrize(
    "date",
    ["1970-01-04", "1970-01-04T01:30", "1970-01-04 01:30:05.25", "1970-01-04T01:30:00+02:00", "1970-01-04T00:00Z"],
)
def test_dates(both: tuple[Recommender, Client], date: str) -> None:
    rec, client = both
    text = f'since >= "{date}"'
    handle = client.rules({"filter": text})
    assert client.recommend([], N, rules=handle).equals(rec.recommend([], N, rules={"filter": text}))
    library().mtaw_rules_close(handle)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("5 in current.price", False),
        ("7 in current.price", True),
        ("5 not in current.price", True),
        ("False in current.sale", False),
        ("True in current.sale", True),
        ('"1970-01-03" in current.since', False),
        ('"1970-01-04" in current.since', True),
        ('"b" in current.tags', True),
        ("current.tags in brand", ["x", "y"]),  # a list shares a value with what it is in, as with ==
        ("current.tags not in brand", ["own"]),
        ("current.tags in tags", ["own"]),
    ],
)
def test_a_value_in_a_column(text: str, wanted: Any, tmp_path: Path) -> None:
    parts = bundle_parts(n_items=4, text=True, max_session_length=8)
    clicked = {"price": 7.0, "sale": True, "since": 3 * 86_400_000, "tags": ["b", "x", "y"]}
    rows: list[dict[str, Any]] = [clicked, {"brand": "x"}, {"brand": "y"}, {"brand": "own", "tags": ["b", "c"]}]
    ids = parts["ids"].external(np.arange(4))
    parts["items"] = table_of(ids, rows)
    save_parts(tmp_path / "bundle", **parts)
    rec = Recommender.load(tmp_path / "bundle")
    expected = rec.recommend(ids[:1], 4, rules={"filter": text}, exclude_seen=True)
    brands = {row["brand"]: item for row, item in zip(rows, ids, strict=True) if "brand" in row}
    allowed = brands if wanted is True else wanted or ()
    assert set(expected.items) == {brands[brand] for brand in allowed}
    with Client(tmp_path / "bundle") as client:
        handle = client.rules({"filter": text})
        assert client.recommend(ids[:1], 4, rules=handle, exclude_seen=True).equals(expected)
        library().mtaw_rules_close(handle)


def test_rules_without_an_item_table(tmp_path: Path) -> None:
    save_parts(tmp_path / "bundle", **bundle_parts(n_items=20))
    with Client(tmp_path / "bundle") as client:
        with pytest.raises(CallError, match="the items have no columns"):
            client.rules({"filter": "sale"})
        handle = client.rules({"pin": {"sku-3": 1}})
        rec = Recommender.load(tmp_path / "bundle")
        assert client.recommend(["sku-1"], 5, rules=handle).equals(
            rec.recommend(["sku-1"], 5, rules={"pin": {"sku-3": 1}})
        )
        library().mtaw_rules_close(handle)
        with pytest.raises(UsageError):
            rec.recommend(["sku-1"], rules={"filter": "sale"})
