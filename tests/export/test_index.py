"""Export an index into a bundle: its entry, its errors, and readers during the export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.ranking import retrieval
from mtaw_fast.recommender import Recommender
from tests.support.export.indexes import N, contents, export
from tests.support.random_bundle import bundle_parts, save_parts

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export import index  # noqa: E402
from mtaw_fast.export.index import export_index  # noqa: E402


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


def test_a_recommender_takes_it_by_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export(folder)
    assert Recommender.load(folder).index.name == "native"
    monkeypatch.setattr(retrieval, "EXACT_ITEMS", N - 1)
    rec = Recommender.load(folder)
    assert rec.index.name == "ann"
    out = rec.recommend([7, 17], k=20, exclude=[27, 37], exclude_seen=True)
    assert len(out) == 20
    assert not {7, 17, 27, 37} & set(out.items)
    few = rec.recommend([7, 17], k=20, allow=[57, 67, 77])
    assert sorted(few.items) == [57, 67, 77]
    assert len(rec.recommend([7], k=N + 10)) == N


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
        printed = capsys.readouterr().out
        for name in ("recall@20", "nprobe of similar_items", "recall@20 of similar_items"):
            assert f"{name}={facts[name]:g}" in printed
        assert main(["recommend", str(folder), "7", "--index", "ann", "-k", "3", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["items"]) == 3
        assert main(["export", str(folder), "--index", "none"]) == 0
        assert capsys.readouterr().out == "index: the bundle has no index now\n"
        assert main(["info", str(folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["index"] is None

    def test_misuse(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["export", str(folder)]) == 2
        assert "nothing to export; give --onnx, --index auto or --page FOLDER" in capsys.readouterr().err
        assert main(["export", str(folder), "--index", "flat"]) == 2
        assert main(["export", str(folder / "no"), "--index", "auto"]) == 1

    def test_auto_explains_itself(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["export", str(folder), "--index", "auto"]) == 0
        assert "3,000 items need no index" in capsys.readouterr().out
