"""The retrieval bench end to end on toy catalogs: its JSON, its gates, its curve."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss", reason="the retrieval bench needs the extra 'bench'")
pytest.importorskip("rich", reason="the retrieval bench needs the extra 'bench'")

from bench.harness import machine
from bench.harness.comparison import Plan, WrongAnswerError, compare, limit_threads
from bench.harness.floors import batch_scan_floor, scan_floor
from bench.retrieval import command as retrieval
from bench.retrieval import recall_curve
from bench.retrieval import vectors as retrieval_data
from bench.retrieval.cases import K, RetrievalCases, no_panorama, recalls
from bench.retrieval.peers import peers
from bench.retrieval.recall_curve import Point, fastest_at, our_peers, trace
from bench.retrieval.vectors import ClusterLaw, VectorSet, clustered_vectors, generated_set
from mtaw_fast.errors import UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.export import recall_search
from mtaw_fast.export.faiss_build import build
from mtaw_fast.ranking.retrieval import make_index
from mtaw_fast.ranking.retrieval.ann_index import AnnIndex
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlan
from tests.support.bench.schema import rows_of
from tests.support.random_bundle import save_random

N = 2500
TINY = Plan(rounds=3, burst=2, settle=1, warmup=1)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch, cheap_timing: None) -> Iterator[None]:
    for name in ("_PLAN", "_BATCH_PLAN", "_QUICK_PLAN"):
        monkeypatch.setattr(retrieval, name, TINY)
    monkeypatch.setattr(retrieval, "QUICK_SIZES", (N,))
    monkeypatch.setattr(retrieval, "_ANN_ITEMS", N)
    monkeypatch.setattr(recall_curve, "_PLAN", TINY)
    monkeypatch.setattr(recall_curve, "_QUERIES", 40)
    monkeypatch.setattr(retrieval_data, "QUERIES", 600)
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    with limit_threads(1):  # the threads of FAISS wait for each other for seconds where others use the cores
        yield


def test_quick_is_the_batch_1_case_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retrieval.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    row, panorama = rows_of(tmp_path / "out.json")
    assert (row["bench"], row["case"], row["metric"], row["baseline"]) == (
        "retrieval", "exact", "latency_us", "faiss-flat",
    )  # fmt: skip
    assert panorama["baseline"] == "faiss-panorama"
    assert row["params"] == {
        "catalog": N, "d": 100, "data": "clustered", "k": K, "batch": 1, "threads": 1, "index": "native",
    }  # fmt: skip
    assert "pure read of the int8 bytes" in row["floor_what"]
    assert "no approximate index over 2,500 items" in capsys.readouterr().out


def test_all_rows_and_the_curve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("hnswlib", "usearch", "svs", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[bench]'")
    command = ["--items", str(N), "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "out.json")]
    assert retrieval.main([*command, "--plot", str(tmp_path / "curve.png")]) == 0
    all_rows = rows_of(tmp_path / "out.json")
    rows = [row for row in all_rows if row["case"] != "recall-curve"]
    curve = [row["params"] for row in all_rows if row["case"] == "recall-curve"]
    assert [point["recall"] for point in curve if point["index"] == "exact native"] == [1]
    assert len({point["index"] for point in curve}) == 7
    assert [(row["case"], row["baseline"]) for row in rows] == [
        ("exact", "faiss-flat"),
        ("exact", "faiss-panorama"),
        ("exact-batch", "faiss-flat"),
        ("exact-batch", "faiss-flat-blas1"),
        ("exact-batch", "faiss-panorama"),
        ("ladder", "faiss-flat"),
        ("ladder", "exact-native"),
    ]
    assert rows[-1]["params"]["recall"] >= 0.99
    assert rows[-1]["params"]["kind"] == "ivfpq"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr()
    for name in ("ann (ivfpq)", "exact native", "faiss HNSW", "faiss IVF-PQfs", "hnswlib", "usearch", "scalable-vs"):
        assert name in output.out
    built = sorted((tmp_path / "cache").rglob("*"))
    # The second run finds every index in the cache.
    assert retrieval.main([*command, "--plot", str(tmp_path / "curve.png")]) == 0
    assert "building" not in capsys.readouterr().err
    assert sorted((tmp_path / "cache").rglob("*")) == built


def test_a_trained_bundle(tmp_path: Path) -> None:
    save_random(tmp_path / "bundle", n_items=N, embedding_dim=16)
    command = ["--quick", "--bundle", str(tmp_path / "bundle"), "--json", str(tmp_path / "out.json")]
    assert retrieval.main(command) == 0
    row, _ = rows_of(tmp_path / "out.json")
    assert (row["params"]["data"], row["params"]["catalog"], row["params"]["d"]) == ("trained generated", N, 16)


def test_misuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--data", "x"], "name its --bundle"),
        (["--items", "ten"], "give whole numbers"),
        (["--items", "10"], "from 1000 on"),
        (["--plot", str(tmp_path / "no" / "x.png")], "its folder does not exist"),
    ):
        assert retrieval.main(arguments) == 2
        assert message in capsys.readouterr().err


def toy_cases(vectors: VectorSet) -> RetrievalCases:
    exact = make_index("native", vectors.catalog, vectors.codes)
    blocks = vectors.codes["blocks"]
    return RetrievalCases(vectors, exact, scan_floor(blocks, repeats=2), batch_scan_floor(64, blocks, repeats=2), TINY)


def test_a_wrong_exact_index_gets_no_row() -> None:
    vectors = generated_set(N, d=20)
    cases = toy_cases(vectors)
    assert compare(cases.exact_case(1, TINY)).ours.n == 6

    class Off:
        name = "off"

        def search(self, *arguments, **options):
            ids, scores = cases.exact.search(*arguments, **options)
            return ids, np.nextafter(scores, np.float32(2))  # one bit too high

    for batch in (1, 64):
        with pytest.raises(WrongAnswerError, match="not those of float64 brute force"):
            compare(dataclasses.replace(cases, exact=Off()).exact_case(batch, TINY))


def test_an_index_under_its_target_gets_no_row() -> None:
    vectors = generated_set(N, d=20)
    cases = toy_cases(vectors)
    index = build("ivfpq", vectors.catalog, 0, lambda _: None).index
    good = AnnIndex(vectors.catalog, index, SearchPlan("ivfpq", index.nlist, 32), cases.exact)
    assert compare(cases.ann_case(good, 0.99)).case.params["recall"] >= 0.99
    with pytest.raises(WrongAnswerError, match=r"its recall@20 is 0\.\d+, under the target 0.99"):
        compare(cases.ann_case(good.with_plan(SearchPlan("ivfpq", 1, 1)), 0.99))


def test_the_approximate_index_is_timed_by_its_plan_for_sessions(tmp_path: Path) -> None:
    from bench.retrieval.cases import ann_index_for

    vectors = generated_set(N, d=20)
    cases = toy_cases(vectors)
    lines: list[str] = []

    def loaded() -> AnnIndex:
        return ann_index_for(vectors, cases.exact, "ivfpq", 0.99, tmp_path, lines.append)

    built = loaded()
    case = cases.ann_case(built, 0.5)
    assert {"kind": "ivfpq", **built.plan.as_dict()}.items() <= case.params.items()
    checked = vectors.queries[:300]  # the other half chose the plan
    scores = built.search(checked, K)[1]
    assert case.params["recall"] == round(float(recalls(cases.exact.search(checked, K)[1], scores).mean()), 4)
    # Kept for the next run, unless an earlier version kept it, with one plan for sessions and items.
    (about,) = tmp_path.rglob("*.json")
    entry = json.loads(about.read_text())
    assert (entry["search"], entry["search_items"]) == (built.plan.as_dict(), built.for_items().plan.as_dict())
    lines.clear()
    assert loaded().plan == built.plan
    assert lines == []
    del entry["search_items"]
    about.write_text(json.dumps(entry))
    assert loaded().recall is not None
    assert len(lines) > 0
    assert "search_items" in json.loads(about.read_text())


def test_an_index_that_misses_its_target_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.retrieval.cases import ann_index_for

    monkeypatch.setitem(recall_search._K_FACTORS, "ivfpq", (1,))
    vectors = generated_set(N, d=20)
    exact = make_index("native", vectors.catalog, vectors.codes)
    with pytest.raises(
        UsageError, match=r"recall@20 1: ivfpq misses it on session vectors \(.*; try the other"
    ) as caught:
        ann_index_for(vectors, exact, "ivfpq", 1.0, tmp_path, lambda _: None)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.rglob("*.json")) == []


def test_recall_counts_ties_alike() -> None:
    true = np.array([[3, 2, 2], [9, 8, 7]], dtype=np.float32)
    scores = np.array([[3, 2, 2], [9, 7, 6]], dtype=np.float32)
    assert recalls(true, scores).tolist() == [1, 2 / 3]


def test_the_exact_index_has_recall_1_on_the_curve() -> None:
    vectors = generated_set(N, d=20)
    exact = make_index("native", vectors.catalog, vectors.codes)
    index = build("hnsw", vectors.catalog, 0, lambda _: None).index
    ann = AnnIndex(vectors.catalog, index, SearchPlan("hnsw", 64, 2), exact)
    points = trace(vectors, exact, our_peers(ann, exact, (40, 400)), TINY)
    assert [(point.name, point.effort) for point in points] == [
        ("ann (hnsw)", 40), ("ann (hnsw)", 400), ("exact native", 0),
    ]  # fmt: skip
    assert points[0].recall <= points[1].recall <= points[2].recall == 1
    assert all(0 < point.p50_us <= point.p95_us <= point.p99_us for point in points)


def test_fastest_at_a_target() -> None:
    measured = (("a", 1, 0.98, 5), ("a", 2, 0.995, 9), ("a", 3, 0.999, 20), ("b", 1, 0.99, 7))
    points = [Point(*values, 30, 40, 100) for values in measured]
    assert fastest_at(points, 0.99) == [points[3], points[1]]


def test_a_missing_peer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("hnswlib", "usearch", "usearch.index", "svs"):
        monkeypatch.setitem(sys.modules, module, None)
    names = [peer.name for peer in peers(clustered_vectors(1500, 8, 1)[0], tmp_path)]
    assert names == ["faiss HNSW", "faiss IVF-PQfs + refine"]
    message = capsys.readouterr().err
    for package in ("hnswlib", "usearch", "svs"):
        assert f"the package '{package}' is not installed: {install_command('bench')}" in message


def test_a_build_that_fails_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    monkeypatch.setattr(faiss, "write_index", lambda index, path: Path(path).write_text("half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(peers(clustered_vectors(1500, 8, 1)[0], tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


class TestClusteredVectors:
    def test_shape_length_and_determinism(self) -> None:
        items, queries = clustered_vectors(3000, 30, 50, seed=3)
        assert (items.shape, queries.shape, items.dtype) == ((3000, 30), (50, 30), np.float32)
        np.testing.assert_allclose(np.linalg.norm(items, axis=1), 1, atol=1e-6)
        again = clustered_vectors(3000, 30, 50, seed=3)
        assert items.tobytes() == again[0].tobytes()
        assert not np.array_equal(items, clustered_vectors(3000, 30, 50, seed=4)[0])

    def test_more_queries_leave_the_items_and_the_first_queries(self) -> None:
        items, queries = clustered_vectors(3000, 10, 2048)
        more_items, more_queries = clustered_vectors(3000, 10, 2500)
        assert items.tobytes() == more_items.tobytes()
        assert queries.tobytes() == more_queries[:2048].tobytes()
        assert len(np.unique(more_queries, axis=0)) == 2500

    def test_queries_are_near_clusters_but_no_items(self) -> None:
        items, queries = clustered_vectors(5000, 100, 200)
        best = np.sort(queries @ items.T, axis=1)[:, ::-1]
        assert best[:, 0].max() < 0.999
        assert best[:, 0].mean() > 0.55  # of two members of a cluster: 1 / (1 + spread^2), .5 to .74
        assert best[:, 4000].mean() < 0.1

    def test_cluster_sizes_follow_the_power_law(self) -> None:
        law = ClusterLaw(items_per_cluster=500, size_exponent=1.0, spread_low=0.1, spread_high=0.1)
        items, _ = clustered_vectors(10_000, 60, 1, law=law)
        # Spread .1 leaves clusters that a cosine of .9 takes apart.
        remaining, sizes = items, []
        while len(remaining):
            near = remaining @ remaining[0] > 0.9
            sizes.append(int(near.sum()))
            remaining = remaining[~near]
        sizes.sort(reverse=True)
        assert len(sizes) == 20
        shares = 1 / np.arange(1, 21)
        np.testing.assert_allclose(np.array(sizes) / 10_000, shares / shares.sum(), atol=0.02)


def test_panorama_is_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    assert no_panorama() is None
    monkeypatch.delattr(faiss, "IndexFlatIPPanorama")
    assert "lacks IndexFlatIPPanorama" in str(no_panorama())
