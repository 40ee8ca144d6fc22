"""Similar items and the search of ids: the Recommender's answers, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.routes.items import find_ids
from tests.service.conftest import BIG, INT_IDS, ODD_IDS
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.service.running import Running, good, refused, same


@pytest.fixture(scope="module")
def rec(memory_bundle: Path) -> Recommender:
    return Recommender.load(memory_bundle)


def similar(service: Running, item: str, **asked: Any) -> Any:
    return good(service.ask("GET", f"/v1/similar?{urlencode({'item': item, **asked}, doseq=True)}"))


@pytest.mark.parametrize("by", ["vectors", "sessions"])
def test_by_vectors_and_by_sessions_with_conditions(memory_service: Running, rec: Recommender, by: Any) -> None:
    skus = [f"sku-{i}" for i in range(1, 30)]
    ways: list[dict[str, Any]] = [
        {}, {"exclude": ["sku-4", "sku-9", "nobody"]}, {"allow": skus}, {"allow": skus, "exclude": skus[:9]},
    ]  # fmt: skip
    for extra in ways:
        same(similar(memory_service, "sku-3", k=50, by=by, **extra), rec.similar_items("sku-3", 50, by=by, **extra))
    assert len(similar(memory_service, "sku-3", by="sessions")["items"]) > 0


def test_long_conditions_leave_the_event_loop(memory_service: Running, rec: Recommender) -> None:
    unknown = [f"x{i}" for i in range(1500)]
    answer = similar(memory_service, "sku-3", k=9, exclude=[*unknown, "sku-4"])
    same(answer, rec.similar_items("sku-3", 9, exclude=["sku-4"]))


def test_reasons_are_the_recommenders(memory_service: Running, rec: Recommender) -> None:
    session = [f"sku-{i}" for i in range(55)]
    answer = good(memory_service.ask("POST", "/v1/recommend", {"session": session, "k": 40, "reasons": True}))
    out = rec.recommend(session, 40, reasons=True)
    same(answer, out)
    assert out.reasons is not None
    assert answer["reasons"] == [{"kind": reason.kind, "items": list(reason.items)} for reason in out.reasons]
    body = {"sessions": [session, []], "k": 40, "reasons": True}
    batch = good(memory_service.ask("POST", "/v1/recommend/batch", body))
    assert batch["answers"][0]["reasons"] == answer["reasons"]
    assert "reasons" not in batch["answers"][1]  # the popularity ranking has none
    body["sessions"] = [session] * 5  # each looks at every result with every click
    refused(memory_service.ask("POST", "/v1/recommend/batch", body), 400, "too_many_reasons")


def test_search_over_http(text_service: Running, int_service: Running) -> None:
    def found(service: Running, text: str, k: int = 20) -> Any:
        return good(service.ask("GET", f"/v1/items?search={quote(text)}&k={k}"))["items"]

    assert found(text_service, "sku-1") == [f"sku-{i}" for i in range(10, 20)]
    assert found(text_service, "sku-12") == ["sku-12"]
    assert found(text_service, "?x=1&y") == ["ä/ö?x=1&y=2#z"]
    assert found(text_service, "sku", 3) == ["sku-10", "sku-11", "sku-12"]
    assert found(text_service, "SKU") == []
    assert found(int_service, "9007") == [2**53 + 1]
    assert found(int_service, "x") == []
    for query in ("", "?search=a&search=b"):
        refused(text_service.ask("GET", f"/v1/items{query}"), 400, "invalid_request")
    refused(text_service.ask("GET", "/v1/items?search=a&k=51"), 400, "k_too_large")


def _catalog(folder: Path, ids: list[Any]) -> Recommender:
    save_parts(folder, **{**bundle_parts(n_items=len(ids)), "ids": ItemIds.from_list(ids)})
    return Recommender.load(folder)


def test_search_equals_a_scan_of_all_ids(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    texts = sorted({"".join(rng.choice(list("abä🙂-"), rng.integers(1, 9))) for _ in range(400)})
    words = _catalog(tmp_path / "texts", list(dict.fromkeys([*texts, *ODD_IDS, "ba", "aa"])))
    for text in ["a", "ab", "ä", "🙂", "-a", "b🙂", "zz", *texts[::40]]:
        expected = [word for word in words.ids if text in word]
        expected.sort(key=lambda word: word != text)
        assert find_ids(words, text, 10_000, lambda: None) == expected
        assert find_ids(words, text, 3, lambda: None) == expected[:3]
    values = sorted({int(value) for value in rng.integers(-5000, 5000, 300)} | set(INT_IDS))
    numbers = _catalog(tmp_path / "numbers", values)
    for text in ["1", "12", "-3", "0", "-", "9", "922337203685477580", "-9223372036854775808", str(BIG), "007", "1x"]:
        expected_numbers = {value for value in values if str(value).startswith(text)} if text not in ("-",) else set()
        matches = find_ids(numbers, text, 10_000, lambda: None)
        if text == "007":
            expected_numbers = {7}
        assert (len(matches), set(matches)) == (len(expected_numbers), expected_numbers), text


def test_search_finds_items_added_while_serving(tmp_path: Path) -> None:
    words = _catalog(tmp_path / "bundle", ["old-a", "old-b", "other"])
    words.add_items(["old-new"], neighbors=[["old-a"]])
    words.remove_items(["old-a"])
    assert find_ids(words, "old", 9, lambda: None) == ["old-a", "old-b", "old-new"]  # a click on it is still known
    assert find_ids(words, "old-new", 9, lambda: None) == ["old-new"]
