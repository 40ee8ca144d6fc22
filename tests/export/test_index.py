"""Export an index into a bundle: what is tried and chosen, its entry, its errors, and readers during the export."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.data.synthetic import generate
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import NumpyIndex
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan, read_entry
from mtaw_fast.recommender import Recommender
from tests.support.export.bundles import contents
from tests.support.random_bundle import bundle_parts, save_parts

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export import index, index_build  # noqa: E402
from mtaw_fast.export.index import Exported, export_index  # noqa: E402
from mtaw_fast.export.index_build import HeldOut  # noqa: E402
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex  # noqa: E402

N, D = 3000, 16


def save(folder: Path, **changes: Any) -> Path:
    save_parts(folder, **{**bundle_parts(n_items=N, embedding_dim=D, text=False), **changes}, overwrite=True)
    return folder


def export(folder: Path, kind: str = "ivfpq", **options: Any) -> Exported:
    return export_index(folder, kind, queries=200, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "bundle")


@pytest.mark.parametrize("kind", ["ivfpq", "hnsw"])
def test_an_exported_index_keeps_its_promise(folder: Path, kind: str) -> None:
    exported = export(folder, kind)
    bundle = Bundle.load(folder)
    entry = bundle.manifest["index"]
    assert exported.entry == entry
    assert entry["kind"] == kind
    assert entry["recall"]["target"] == 0.99
    assert min(entry["recall"]["sessions"], entry["recall"]["items"]) >= 0.99
    assert entry["recall"]["source"] == "400 sessions made from the catalog's own neighborhoods"
    printed = exported.why
    assert printed.startswith(f"{entry['build']['factory']}; sessions: ")
    for words, plan, recall in (("sessions: ", "search", "sessions"), ("similar_items: ", "search_items", "items")):
        parameters = ", ".join(f"{name} {value}" for name, value in entry[plan].items())
        assert f"{words}{parameters}, recall@20 {entry['recall'][recall]:.4f}" in printed
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["manifest.json", *(file["file"] for file in bundle.manifest["files"].values())]
    )
    approximate = Recommender.load(folder, index="ann")
    exact = Recommender.load(folder, index="numpy")
    assert approximate.index.name == "ann"
    # Our own sessions and items: at most twice the misses that the target allows.
    rng = np.random.default_rng(5)
    sessions = Sessions.from_lists(rng.integers(0, N, (300, 4)).astype(np.int32))
    scores, truth = approximate.rank(sessions, 20)[1], exact.rank(sessions, 20)[1]
    assert (scores >= truth[:, -1:]).mean() > 0.98
    for item in range(7, 700, 70):
        got, want = (rec.similar_items(10 * item + 7, k=20) for rec in (approximate, exact))
        assert len(got) == 20
        assert (got.scores >= want.scores[-1]).mean() >= 0.8


def test_auto(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    exported = export(folder, "auto")
    assert exported.entry is None
    assert "3,000 items need no index: up to 300,000 an exact search is as fast" in exported.why
    assert contents(folder) == before
    monkeypatch.setattr(index, "EXACT_ITEMS", N - 1)
    fast = export(folder, "auto").entry
    assert fast is not None
    assert fast["kind"] == "ivfpq"
    monkeypatch.setattr(index, "_FAST_US", 0.0)  # then both kinds are tried
    tried: list[str] = []
    fastest = export(folder, "auto", say=tried.append).entry
    assert fastest is not None
    assert sum("looking for parameters" in line for line in tried) == 2


def test_wrong_arguments_are_refused(folder: Path, tmp_path: Path) -> None:
    for options, message in (
        ({"kind": "flat"}, "there is no index 'flat' to export; choose one of auto, ivfpq, hnsw, none"),
        ({"recall": 0.0}, "recall must be over 0 and at most 1"),
        ({"recall": 1.5}, "recall must be over 0 and at most 1"),
        ({"queries": 10}, "a recall needs at least 100 queries"),
    ):
        with pytest.raises(UsageError, match=message):
            export_index(folder, **options)
    save_parts(tmp_path / "small", **bundle_parts(n_items=60))
    with pytest.raises(UsageError, match="has 60 items; an index is for 1,000 and more"):
        export_index(tmp_path / "small", "hnsw")
    with pytest.raises(BundleError, match="does not exist"):
        export_index(tmp_path / "nowhere", "hnsw")


def test_recall_is_measured_on_validation_sessions(tmp_path: Path) -> None:
    dataset = generate(N, 6000, seed=1)
    save(tmp_path / "bundle", ids=dataset.ids)
    exported = export(tmp_path / "bundle", dataset=dataset)
    assert exported.entry is not None
    held_out = dataset.train.split_last(Bundle.load(tmp_path / "bundle").config.optimizer.validation_fraction)[1]
    count = min(400, len(Samples.from_sessions(held_out, dataset.min_prefix)))
    assert count > 200
    assert (
        exported.entry["recall"]["source"] == f"{count} prefixes of the validation sessions of data set {dataset.name}"
    )


def test_sessions_of_another_catalog_are_refused(folder: Path) -> None:
    dataset = generate(50, 6000, seed=1)  # its ids are numbers
    save(folder, ids=bundle_parts(n_items=N, embedding_dim=D)["ids"])  # texts
    before = contents(folder)
    with pytest.raises(UsageError, match="validation prefixes of items that the bundle knows, a recall needs 100"):
        export(folder, dataset=dataset)
    assert contents(folder) == before


def test_auto_goes_on_where_the_first_kind_misses_the_recall(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "EXACT_ITEMS", N - 1)
    monkeypatch.setitem(index_build._K_FACTORS, "ivfpq", (1,))
    lines: list[str] = []
    exported = export(folder, "auto", say=lines.append).entry
    assert exported is not None
    assert exported["kind"] == "hnsw"
    assert sum("does not reach it" in line for line in lines) == 1


def test_a_recall_that_cannot_be_met_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    monkeypatch.setitem(index_build._K_FACTORS, "ivfpq", (1,))  # 4-bit codes alone never order the top 20 right
    best = r"on session vectors \(the best: 0\.\d+\) and item vectors \(the best: 0\.\d+\)"
    with pytest.raises(BundleError, match=rf"reaches recall@20 0.99: ivfpq misses it {best}; lower --recall") as caught:
        export(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    exported = export(folder, recall=0.3).entry
    assert exported is not None
    assert exported["recall"]["target"] == 0.3


@pytest.mark.parametrize("kind", ["ivfpq", "hnsw"])
@pytest.mark.parametrize("hard_is", ["items", "sessions"])
def test_each_kind_of_query_gets_a_plan_of_its_own(kind: str, hard_is: str) -> None:
    """Queries in the middle of a cluster need one list; those between clusters need many."""
    rng = np.random.default_rng(0)
    middles = normalized(rng.standard_normal((60, D)).astype(np.float32))
    catalog = normalized(middles[rng.integers(0, 60, N)] + np.float32(0.1) * rng.standard_normal((N, D), np.float32))
    exact = NumpyIndex(catalog)
    easy = normalized(middles[rng.integers(0, 60, 600)] + np.float32(0.02) * rng.standard_normal((600, D), np.float32))
    hard = normalized(rng.standard_normal((600, D), np.float32))
    sessions, items = (easy, hard) if hard_is == "items" else (hard, easy)
    tune, check = HeldOut.halves(sessions, items, exact)
    approximate, entry = index_build.fitted(kind, catalog, exact, tune, check, "a test", 0.99, 0, lambda _: None)
    plans, recall = read_entry("here", entry)

    def recall_of(plan: SearchPlan, queries: HeldOut) -> float:
        scores = AnnIndex(catalog, approximate, plan, exact).search(queries.vectors, 20)[1]
        return float(queries.recalls(scores).mean())

    assert recall.sessions == round(recall_of(plans.sessions, check[0]), 5) >= 0.99
    assert recall.items == round(recall_of(plans.items, check[1]), 5) >= 0.99
    cheap, hard_queries = (plans.sessions, check[1]) if hard_is == "items" else (plans.items, check[0])
    assert recall_of(cheap, hard_queries) < 0.99


def test_a_full_disk_is_reported_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    class Full:
        def __init__(self, _: Callable[[bytes], int]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(faiss, "PyCallbackIOWriter", Full)
    with pytest.raises(BundleError, match=r"cannot write .*index.*: No space left on device") as caught:
        export(folder)
    assert "\n" not in str(caught.value)
    assert contents(folder) == before


class TestCommand:
    def test_export_info_and_none(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["export", str(folder), "--index", "ivfpq", "--recall", "0.97", "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["index"] == Bundle.load(folder).manifest["index"]
        assert main(["info", str(folder), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)["index"]
        assert (facts["kind"], facts["nprobe"]) == ("ivfpq", printed["index"]["search"]["nprobe"])
        assert facts["recall@20"] == printed["index"]["recall"]["sessions"] >= 0.97
        assert facts["nprobe of similar_items"] == printed["index"]["search_items"]["nprobe"]
        assert facts["k_factor of similar_items"] == printed["index"]["search_items"]["k_factor"]
        assert facts["recall@20 of similar_items"] == printed["index"]["recall"]["items"] >= 0.97
        assert main(["info", str(folder)]) == 0
        assert f"recall@20 of similar_items={facts['recall@20 of similar_items']:g}" in capsys.readouterr().out
        assert main(["recommend", str(folder), "7", "--index", "ann", "-k", "3", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["items"]) == 3
        assert main(["export", str(folder), "--index", "none"]) == 0
        assert capsys.readouterr().out == "index: the bundle has no index now\n"
        assert main(["info", str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["index"] is None
