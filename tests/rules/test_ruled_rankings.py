"""Rankings under rules equal their definition, applied to the whole ranked catalog."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.options import options_of
from mtaw_fast.ranking.retrieval.ann_index import LARGEST_K, AnnIndex
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.timed_model import END, HOUR, timed_model
from tests.support.rules.random_rules import (
    arranged,
    as_text,
    holds,
    random_rows,
    random_rules,
    serve_table,
    table_of,
)

N = 160
CASES = 40  # a combination; hundreds in all


class Shop:
    """A recommender over a random bundle with a random item table, and the oracle's view of both."""

    def __init__(self, folder: Path, kind: str, encoder: str, index: str, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.always: dict[str, Any] = {}
        self.few_ranked = kind == "few ranked"
        if kind in ("times", "few ranked"):
            self.always["at"] = END + HOUR
            model = timed_model(ranked_candidates=5 if self.few_ranked else 92)
            Bundle.save(folder, model, metrics={}, dataset={"name": "times", "fingerprint": "x"})
        else:
            parts = bundle_parts(n_items=N, embedding_dim=12, max_session_length=8, text=kind != "int-ids", seed=seed)
            if kind == "memory":
                parts |= memory_parts(N, seed)
            embedding = parts["weights"]["item_embedding"]
            embedding[40:60] = embedding[20:40]  # ties
            save_parts(folder, **parts)
        if encoder == "onnx":
            from mtaw_fast.export.onnx_model import export_onnx

            export_onnx(folder, ["float32"])
        self.rec = Recommender.load(folder, encoder=encoder, index=index)
        self.d = self.rec.bundle.config.model.embedding_dim
        self.rows: dict[Any, Any] = {}
        self.change()

    def change(self) -> None:
        """Give the catalog other items and another table."""
        known = [item for item in self.rec.ids if self.rec.recommend([], 1, allow=[item]).items]
        if self.rng.random() < 0.5 and len(known) > 40:
            self.rec.remove_items(
                [
                    str(item) if isinstance(known[0], str) else int(item)
                    for item in self.rng.choice(known, 3, replace=False)
                ]
            )
        if self.rng.random() < 0.5:
            new = [
                f"new-{len(self.rec.ids) + i}" if isinstance(known[0], str) else 10**6 + len(self.rec.ids) + i
                for i in range(3)
            ]
            self.rec.add_items(new, vectors=self.rng.normal(size=(3, self.d)))
        ids = list(self.rec.ids)
        rows = random_rows(self.rng, len(ids))
        self.order = {item: place for place, item in enumerate(ids)}
        self.rows = dict(zip(ids, rows, strict=True))
        serve_table(self.rec, table_of(ids, rows))

    def request(self) -> tuple[list[Any], dict[str, Any], dict[str, Any], int]:
        """Return a random session, options, rules and k."""
        ids, rng = list(self.rows), self.rng
        session = [ids[place] for place in rng.integers(0, len(ids), rng.integers(0, 5))]
        options: dict[str, Any] = {"exclude_seen": bool(rng.integers(2)), **self.always}
        if rng.random() < 0.3:
            options["exclude"] = [ids[place] for place in rng.integers(0, len(ids), 4)]
        if rng.random() < 0.2:
            options["allow"] = [ids[place] for place in rng.integers(0, len(ids), len(ids) // 2)]
        return session, options, random_rules(rng, ids), int(rng.choice([1, 3, 20, N]))

    def expected(
        self, whole: Any, rules: dict[str, Any], session: list[Any], options: dict[str, Any], k: int
    ) -> tuple[list[Any], list[float]]:
        """Return the definition's answer. whole: ranks the whole catalog with the given options."""
        current = self.rows[session[-1]] if session else {}
        kept = [
            item
            for item in self.rows
            if all(holds(condition, self.rows[item], current) for condition in rules.get("filter", ()))
        ]
        allowed = set(options.get("allow", kept))
        ranked = whole(**{**options, "allow": [item for item in kept if item in allowed]})
        return arranged(list(ranked), rules, self.rows, current, self.order, k)

    def whole(self, session: list[Any], rules: dict[str, Any], options: dict[str, Any]) -> Any:
        """Return the whole ranking, in which the ranker scores the candidates that the boosts raise."""
        if not self.few_ranked or not session:
            return self.rec.recommend(session, self.rec.n_items, **options)
        catalog, current = self.rec._pipeline.catalog, self.rows[session[-1]]
        boosts = [
            sum(boost["by"] for boost in rules.get("boost", ()) if holds(boost["when"], self.rows[item], current))
            for item in self.order
        ]
        conditions, ranker = options_of(catalog, 1, **options).conditions, self.rec._pipeline.ranker
        clicks = catalog.ids.lookup(session)
        ids, scores, _ = ranker.engine.rank(
            clicks, np.array([0, len(clicks)]), self.rec.n_items, conditions.excluded, conditions.bits,
            conditions.exclude_seen, conditions.at or 0,
            always_ranked=np.packbits(np.array(boosts) > 0, bitorder="little"), other=ranker._stages(conditions),
        )  # fmt: skip
        filled = ids[0] >= 0
        return list(zip(catalog.ids.external(ids[0][filled]), scores[0][filled].tolist(), strict=True))


def assert_equal(out: Recommendations, expected: tuple[list[Any], list[float]], k: int) -> None:
    items, scores = expected
    assert out.items == items
    assert out.scores.tolist() == [float(score) for score in scores]
    assert (out.short == "rules") == (len(items) < k)


def check_cases(shop: Shop, cases: int) -> None:
    for case in range(cases):
        if case % 25 == 24:
            shop.change()
        session, options, rules, k = shop.request()
        n_items, written = shop.rec.n_items, as_text(rules)
        k = min(k, n_items)
        expected = shop.expected(
            lambda session=session, rules=rules, **arguments: shop.whole(session, rules, arguments),
            rules, session, options, k,
        )  # fmt: skip
        try:
            assert_equal(shop.rec.recommend(session, k, rules=written, **options), expected, k)
            if case % 3 == 0:
                other = shop.request()[0]
                both = shop.rec.recommend_batch([other, session, []], k, rules=written, **options)
                assert_equal(both[1], expected, k)
            if case % 3 == 1:
                assert_equal(shop.rec.session(session).recommend(k, rules=written, **options), expected, k)
            if case % 3 == 2 and session:
                _check_similar(shop, session[-1], rules, options, k)
        except AssertionError as error:
            raise AssertionError(f"{written} {session} {options} k={k}: {error}") from None


def _check_similar(shop: Shop, item: Any, rules: dict[str, Any], options: dict[str, Any], k: int) -> None:
    wanted = {name: value for name, value in options.items() if name not in ("exclude_seen", "at")}
    ways: tuple[Any, ...] = ("vectors", "sessions")[: 1 if shop.rec.bundle.memory is None else 2]
    for by in ways:
        if by == "sessions":  # its ranking has neighbors only, a pin may be any item
            rules = {key: value for key, value in rules.items() if key != "pin"}
        expected = shop.expected(
            lambda by=by, **arguments: shop.rec.similar_items(item, shop.rec.n_items, by=by, **arguments),
            rules,
            [item],
            wanted,
            k,
        )
        assert_equal(shop.rec.similar_items(item, k, by=by, rules=as_text(rules), **wanted), expected, k)


@pytest.mark.long(caught="the tests below, with fewer cases")
@pytest.mark.parametrize("kind", ["text-ids", "int-ids", "memory", "times", "few ranked"])
@pytest.mark.parametrize("index", ["native", "numpy"])
def test_many_cases_equal_the_definition(tmp_path: Path, kind: str, index: str) -> None:
    check_cases(Shop(tmp_path / "bundle", kind, "native", index, seed=50 + len(kind + index)), 10_000)


PACKAGES = {"torch": ("torch",), "onnx": ("torch", "onnx", "onnxruntime"), "faiss-flat": ("faiss",)}
STAGES = [("native", "native"), ("numpy", "numpy"), ("native", "numpy"), ("numpy", "faiss-flat")]


@pytest.mark.parametrize(
    ("kind", "encoder", "index"),
    [
        *((kind, *stages) for kind in ("text-ids", "int-ids", "memory") for stages in STAGES),
        *(("times", "native", index) for index in ("native", "numpy", "faiss-flat")),
        ("few ranked", "native", "native"), ("few ranked", "native", "numpy"),
        ("times", "torch", "native"), ("memory", "onnx", "native"),
    ],
)  # fmt: skip
def test_equals_the_definition(tmp_path: Path, kind: str, encoder: str, index: str) -> None:
    for package in (*PACKAGES.get(encoder, ()), *PACKAGES.get(index, ())):
        pytest.importorskip(package)
    cases = CASES // 4 if encoder in PACKAGES else CASES
    check_cases(Shop(tmp_path / "bundle", kind, encoder, index, seed=len(kind + index)), cases)


@pytest.mark.parametrize("kind", ["memory", "times", "text-ids"])
def test_an_approximate_index_equals_the_definition_over_its_candidates(tmp_path: Path, kind: str) -> None:
    """They are its first 128."""
    pytest.importorskip("faiss")
    from mtaw_fast.export.index_build import build

    shop = Shop(tmp_path / "bundle", kind, "native", "numpy", seed=3)
    vectors, exact = shop.rec.bundle.item_vectors, shop.rec.index
    graph = build("hnsw", vectors, 0, lambda _: None)[0]
    shop.rec._served.index = AnnIndex(vectors, graph, SearchPlan("hnsw", 200, 2), exact)
    shop.rec._served.update(replace)  # another one, of which a pipeline is made
    assert shop.rec._pipeline.index.name == "ann"
    for _ in range(CASES // 4):
        session, options, rules, k = shop.request()
        k = min(k, 20)
        rules.pop("pin", None)  # a pinned item need not be one of the candidates
        depth = min(LARGEST_K, shop.rec.n_items) if session else shop.rec.n_items
        expected = shop.expected(
            lambda session=session, depth=depth, **arguments: shop.rec.recommend(session, depth, **arguments),
            rules, session, options, k,
        )  # fmt: skip
        out = shop.rec.recommend(session, k, rules=as_text(rules), **options)
        assert (out.items, out.scores.tolist()) == (expected[0], [float(score) for score in expected[1]])
        assert (out.short is None) == (len(out) == min(k, shop.rec.n_items))
