"""The search for a plan: what is tried, and what is chosen."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import BundleError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import NumpyIndex
from tests.support.export.indexes import D, N, contents, export

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export import faiss_build, index, recall_search  # noqa: E402
from mtaw_fast.export.recall_search import HeldOut  # noqa: E402


def test_auto_goes_on_where_the_first_kind_misses_the_recall(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "EXACT_ITEMS", N - 1)
    monkeypatch.setitem(recall_search._K_FACTORS, "ivfpq", (1,))
    lines: list[str] = []
    exported = export(folder, "auto", say=lines.append).entry
    assert exported is not None
    assert exported["kind"] == "hnsw"
    assert sum("does not reach it" in line for line in lines) == 1


def test_a_recall_that_cannot_be_met_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    monkeypatch.setitem(recall_search._K_FACTORS, "ivfpq", (1,))  # 4-bit codes alone never order the top 20 right
    best = r"on session vectors \(the best: 0\.\d+\) and item vectors \(the best: 0\.\d+\)"
    with pytest.raises(BundleError, match=rf"reaches recall@20 0.99: ivfpq misses it {best}; lower --recall") as caught:
        export(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    exported = export(folder, recall=0.3).entry
    assert exported is not None
    assert exported["recall"]["target"] == 0.3


def test_plans_are_tried_up_to_twice_the_effort_that_surely_reaches_all() -> None:
    rng = np.random.default_rng(0)
    catalog = normalized(rng.standard_normal((N, D), np.float32))
    exact = NumpyIndex(catalog)
    held_out = [HeldOut.of(normalized(rng.standard_normal((100, D), np.float32)), exact, (20,)) for _ in range(2)]
    approximate = faiss_build.build("ivfpq", catalog, 0, lambda _: None).index

    def efforts(target: float) -> list[int]:
        tried = recall_search.options("ivfpq", approximate, catalog, held_out, target)
        assert [option.plan for option in tried[0]] == [option.plan for option in tried[1]]
        sure = max(min(o.plan.effort for o in options if o.recall - 3 * o.error >= target) for options in tried)
        kept = sorted({option.plan.effort for option in tried[0]})
        assert kept == [effort for effort in recall_search._EFFORTS if effort <= min(2 * sure, kept[-1])]
        assert kept[-1] * 1.5 > 2 * sure or kept[-1] == approximate.nlist
        return kept

    assert efforts(0.5)[-1] < efforts(0.8)[-1] < approximate.nlist


def test_a_plan_must_hold_on_queries_that_did_not_choose_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the check queries disagree, the choice is more cautious; if that never helps, nothing is chosen."""
    plans = [recall_search.SearchPlan("hnsw", effort, 2) for effort in (40, 80, 160)]
    tried = [
        recall_search.Option(plan, recall, 0.001) for plan, recall in zip(plans, (0.9905, 0.9915, 0.9925), strict=True)
    ]
    monkeypatch.setattr(recall_search, "_fastest", lambda plans, *_: (plans[0], 1.0))

    class Queries:
        vectors = np.zeros((1, 4), np.float32)

        def __init__(self, truly: dict[int, float]) -> None:
            self.truly = truly

        def recalls(self, effort: np.ndarray, k: int = 20) -> np.ndarray:
            return np.array([self.truly[int(effort)]])

    class FakeIndex:
        def __init__(self, plan: recall_search.SearchPlan) -> None:
            self.plan = plan

        def search(self, *_: Any) -> tuple[None, int]:
            return None, self.plan.effort

    def chosen(truly: dict[int, float]) -> Any:
        option = recall_search.choose(tried, 0.99, FakeIndex, Queries(truly))  # type: ignore[arg-type]
        return option and option.plan.effort

    assert chosen({40: 1.0, 80: 0.991, 160: 0.995}) == 80  # 40 is only half a standard error over the target
    assert chosen({80: 0.9899, 160: 0.9901}) == 160
    assert chosen({80: 0.9899, 160: 0.9899}) is None


@pytest.mark.parametrize(("missing", "words"), [(0, "session vectors"), (1, "item vectors")], ids=["sessions", "items"])
def test_the_kind_of_query_that_misses_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, missing: int, words: str
) -> None:
    """The true scores of one kind are made larger than any, so the recall is 0."""
    before = contents(folder)
    halves = 0

    def beyond(vectors: np.ndarray, *arguments: Any) -> HeldOut:
        nonlocal halves
        held_out = HeldOut.of(vectors, *arguments)
        halves += 1
        if (halves - 1) % 2 != missing:
            return held_out
        return HeldOut(held_out.vectors, {k: scores + 2 for k, scores in held_out.kth.items()})

    monkeypatch.setattr(recall_search, "HeldOut", SimpleNamespace(of=beyond))
    lines: list[str] = []
    with pytest.raises(BundleError, match=rf"0.99: ivfpq misses it on {words} \(the best: 0.0000\); lower") as caught:
        export(folder, say=lines.append)
    assert "\n" not in str(caught.value)
    assert lines[-1].endswith(f" does not reach it on {words}")
    assert contents(folder) == before
