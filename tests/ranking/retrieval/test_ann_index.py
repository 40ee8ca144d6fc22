"""The approximate index: exact scores, filters, always k results, the exact index where it must be used."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.kernels.native import reference
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking import retrieval
from mtaw_fast.ranking.retrieval import AnnFile, NumpyIndex, for_items, make_index
from mtaw_fast.ranking.retrieval.ann_plan import KINDS, Recall, SearchPlan, SearchPlans, index_entry, read_entry
from mtaw_fast.ranking.retrieval.segmented_index import SegmentedIndex
from tests.support.ranking.catalogs import same

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export.index_build import build, write_index  # noqa: E402
from mtaw_fast.ranking.retrieval.ann_index import LARGEST_K, MIN_SHARE, AnnIndex  # noqa: E402

N, D = 4000, 21
RECALL = Recall(0.99, 0.995, 0.996, 0.98, 1000, "a test")
PLANS = {"ivfpq": SearchPlan("ivfpq", 24, 6), "hnsw": SearchPlan("hnsw", 96, 2)}
BOTH = {kind: SearchPlans(plan, SearchPlan(kind, 2 * plan.effort, 3 * plan.k_factor)) for kind, plan in PLANS.items()}


@cache
def catalog() -> np.ndarray:
    """Clusters, with some items twice and some of zeros."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((80, D))[rng.integers(0, 80, N)] + 0.5 * rng.standard_normal((N, D))
    rows[1000:1100] = rows[900:1000]
    rows[7] = 0
    return normalized(rows.astype(np.float32))


@cache
def approximate(kind: str) -> Any:
    return build(kind, catalog(), 0, lambda _: None)[0]


def ann_file(folder: Path, kind: str) -> AnnFile:
    write_index(folder / "index.faiss", approximate(kind))
    return AnnFile(folder / "index.faiss", index_entry(BOTH[kind], RECALL, {}))


@cache
def queries() -> np.ndarray:
    rng = np.random.default_rng(1)
    near = catalog()[rng.integers(0, N, 40)] + 0.1 * rng.standard_normal((40, D)).astype(np.float32)
    return np.concatenate([normalized(near.astype(np.float32)), np.zeros((1, D), np.float32)])


def ann_index(kind: str, plan: SearchPlan | None = None) -> AnnIndex:
    return AnnIndex(catalog(), approximate(kind), plan or PLANS[kind], NumpyIndex(catalog()))


def check_scores(found: tuple[np.ndarray, np.ndarray], k: int) -> None:
    """Check that each row is the exact ranking of its own items: bits of the scores, order, ties, padding."""
    assert same(found, reference.rerank_topk(queries(), catalog(), found[0], k, 16.0))


@pytest.mark.parametrize("kind", KINDS)
class TestAnnIndex:
    def test_edges(self, kind: str) -> None:
        index, exact = ann_index(kind), NumpyIndex(catalog())
        for k in (LARGEST_K + 1, N + 5):  # the exact index answers for long lists
            assert same(index.search(queries()[:3], k, scale=16.0), exact.search(queries()[:3], k, scale=16.0))
        wide = np.zeros((5, 2 * D), dtype=np.float32)
        wide[:, ::2] = queries()[:5]
        assert same(index.search(wide[:, ::2], 7), index.search(queries()[:5], 7))
        assert index.search(queries()[:0], 7)[0].shape == (0, 7)
        with pytest.raises(UsageError, match=r"queries must be float32\[B, 21\]"):
            index.search(queries()[:, :3], 5)

    @pytest.mark.parametrize("k", [1, 20, LARGEST_K])
    def test_finds_nearly_all_and_scores_exactly(self, kind: str, k: int) -> None:
        result = ann_index(kind).search(queries(), k, scale=16.0)
        assert (result[0].shape, result[0].dtype, result[1].dtype) == ((41, k), np.int32, np.float32)
        assert (result[0] >= 0).all()
        check_scores(result, k)
        truth = NumpyIndex(catalog()).search(queries(), k, scale=16.0)[1]
        assert (result[1] >= truth[:, -1:]).mean() > 0.95

    def test_equals_the_exact_index_where_it_looks_at_everything(self, kind: str) -> None:
        everything = SearchPlan(kind, N if kind == "hnsw" else approximate(kind).nlist, N // 20)
        rows = queries()[:6]
        # HNSW is a graph: items that no link leads to stay unseen at any effort, so near ties may be missing.
        result = ann_index(kind, everything).search(rows, 20, scale=16.0)
        expected = NumpyIndex(catalog()).search(rows, 20, scale=16.0)
        if kind == "ivfpq":
            assert same(result, expected)
        else:
            assert (result[1] >= expected[1][:, -1:]).mean() > 0.99

    @pytest.mark.parametrize("share", [1.0, 0.9, 0.4, 0.1, 0.5 * MIN_SHARE, 0.003, 0.0])
    @pytest.mark.parametrize("k", [1, 20, 100])
    def test_filters_hold_and_leave_k_results(self, kind: str, share: float, k: int) -> None:
        mask = np.random.default_rng(2).random(N) < share
        allowed = Filter(mask)
        result = ann_index(kind).search(queries(), k, allowed, scale=16.0)
        count = min(k, int(mask.sum()))
        assert mask[result[0][:, :count]].all()
        assert (result[0][:, count:] == -1).all()
        assert (result[1][:, count:] == -np.inf).all()
        check_scores(result, k)
        truth = NumpyIndex(catalog()).search(queries(), k, allowed, scale=16.0)
        if share < MIN_SHARE:
            assert same(result, truth)
        elif count:
            assert (result[1] >= truth[1][:, count - 1 : count]).mean() > 0.95

    def test_an_answer_does_not_depend_on_its_batch_or_its_thread(self, kind: str) -> None:
        index = ann_index(kind)
        mask = Filter(np.random.default_rng(3).random(N) < 0.5)
        for allowed in (None, mask):
            together = index.search(queries(), 20, allowed, scale=16.0)

            def alone(b: int, allowed: Filter | None = allowed) -> tuple[np.ndarray, ...]:
                return index.search(queries()[b : b + 1], 20, allowed, scale=16.0)

            with ThreadPoolExecutor(4) as pool:
                for b, answer in enumerate(pool.map(alone, list(range(len(queries()))) * 3)):
                    row = b % len(queries())
                    assert same(answer, tuple(part[row : row + 1] for part in together))

    def test_the_mapped_file_gives_the_same_answers(self, kind: str, tmp_path: Path) -> None:
        index = make_index("ann", catalog(), None, ann_file(tmp_path, kind))
        assert isinstance(index, AnnIndex)
        assert (index.name, index.plan) == ("ann", PLANS[kind])
        assert (index.for_items().name, index.for_items().plan) == ("ann", BOTH[kind].items)
        assert same(index.search(queries(), 20, scale=16.0), ann_index(kind).search(queries(), 20, scale=16.0))

    def test_a_file_of_something_else_is_refused(self, kind: str, tmp_path: Path) -> None:
        remedy = "export the index again"
        file = ann_file(tmp_path, kind)
        with pytest.raises(BundleError, match=rf"over 4000 x 21 values, the bundle needs .* over 3999 x 21; {remedy}"):
            make_index("ann", catalog()[:-1], None, file)
        other = AnnFile(file.path, index_entry(BOTH["hnsw" if kind == "ivfpq" else "ivfpq"], RECALL, {}))
        with pytest.raises(BundleError, match=remedy):
            make_index("ann", catalog(), None, other)
        file.path.write_bytes(file.path.read_bytes()[:5000])
        with pytest.raises(BundleError, match=rf"not an index that FAISS .* reads .*{remedy}"):
            make_index("ann", catalog(), None, file)
        file.path.write_bytes(b"")
        with pytest.raises(BundleError, match=remedy):
            make_index("ann", catalog(), None, file)


class TestForItems:
    """Searches for sessions read one list here, searches for items read all: the results differ."""

    def two_plans(self) -> AnnIndex:
        everything = SearchPlan("ivfpq", approximate("ivfpq").nlist, N // 20)
        index = approximate("ivfpq")
        return AnnIndex(catalog(), index, SearchPlan("ivfpq", 1, 1), NumpyIndex(catalog()), everything)

    def test_ann_has_another_plan_for_items(self) -> None:
        index, rows = self.two_plans(), queries()[:6]
        truth = NumpyIndex(catalog()).search(rows, 20)
        assert same(for_items(index).search(rows, 20), truth)
        assert not same(index.search(rows, 20), truth)
        assert same(index.search(rows, 20), ann_index("ivfpq", SearchPlan("ivfpq", 1, 1)).search(rows, 20))
        assert for_items(for_items(index)).search(rows, 20)[0].tolist() == truth[0].tolist()

    def test_a_segmented_index_keeps_it(self) -> None:
        rng = np.random.default_rng(5)
        unavailable = rng.random(N + 3) < 0.2
        added = queries()[:3]
        base, whole = self.two_plans(), NumpyIndex(np.concatenate([catalog(), added]))
        index, rows = SegmentedIndex(base, N, added, unavailable), queries()[:6]
        for mask in (~unavailable, ~unavailable & (rng.random(N + 3) < 0.5)):
            allowed = Filter(mask)
            truth = whole.search(rows, 20, allowed)
            for _ in range(2):  # the second uses the prepared filter
                assert same(for_items(index).search(rows, 20, allowed), truth)
                assert not same(index.search(rows, 20, allowed), truth)
        assert same(for_items(index).search(rows, 20), whole.search(rows, 20, Filter(~unavailable)))

    def test_other_indexes_search_by_all_vectors_alike(self) -> None:
        exact = NumpyIndex(catalog())
        added, unavailable = queries()[:1], np.zeros(N + 1, dtype=bool)
        for index in (exact, ann_index("ivfpq"), SegmentedIndex(exact, N, added, unavailable)):
            assert for_items(index) is index


def test_auto_takes_ann_above_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = ann_file(tmp_path, "ivfpq")
    assert make_index("auto", catalog(), None, file).name == "native"
    monkeypatch.setattr(retrieval, "EXACT_ITEMS", N - 1)
    assert make_index("auto", catalog()).name == "native"
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        assert make_index("auto", catalog(), None, file).name == "ann"
    assert "index: ann (auto)" in caplog.text
    with pytest.raises(UsageError, match="the bundle has no index; add one with 'mtaw-fast export"):
        make_index("ann", catalog())
    monkeypatch.setitem(sys.modules, "faiss", None)
    caplog.clear()
    assert make_index("auto", catalog(), None, file).name == "native"
    assert "needs FAISS, which is not installed" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.clear(),
        lambda entry: entry.update(kind="faiss-flat"),
        lambda entry: entry.update(kind="hnsw"),
        lambda entry: entry["search"].update(nprobe=True),
        lambda entry: entry["search"].update(k_factor=0),
        lambda entry: entry.update(search_items=[48, 18]),
        lambda entry: entry["search_items"].pop("k_factor"),
        lambda entry: entry["recall"].pop("items"),
    ],
)
def test_a_damaged_entry_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    entry = index_entry(BOTH["ivfpq"], RECALL, {"factory": "IVF"})
    assert read_entry("here", entry) == (BOTH["ivfpq"], RECALL)
    change(entry)
    message = r"here: .*index.*; export the index again with 'mtaw-fast export --index'"
    with pytest.raises(BundleError, match=message) as caught:
        read_entry("here", entry)
    assert "\n" not in str(caught.value)
