"""The exported graphs against the PyTorch model and, also on a data set, the Recommender; those that are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPHS, VARIANTS
from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.evaluation import evaluate
from mtaw_fast.model.model import Model
from mtaw_fast.recommender import Recommender
from tests.support.export.bundles import END, MAX_LEN, SETTINGS, D, N, contents, graph, save_kind
from tests.support.random_bundle import bundle_parts, save_parts, save_random

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")


from mtaw_fast.export import onnx_build, parity  # noqa: E402
from mtaw_fast.export.graph_ranker import open_graph  # noqa: E402
from mtaw_fast.export.onnx_graph import GraphModel  # noqa: E402
from mtaw_fast.export.onnx_model import ExportedGraphs, export_onnx  # noqa: E402


class TestParity:
    def test_the_report(self, exported: tuple[Bundle, ExportedGraphs]) -> None:
        bundle, result = exported
        entry = bundle.manifest["onnx"]
        assert result.entry == entry
        assert entry["versions"].keys() == {"onnx", "onnxruntime"}
        assert list(entry["variants"]) == list(VARIANTS)
        reports = {name: facts["parity"] for name, facts in entry["variants"].items()}
        assert reports["float32"]["score_error"] < 2e-5
        assert (reports["float32"]["misplaced"], reports["float32"]["overlap"]) == (0, 1)
        assert reports["float32"]["places_equal"] > 0.999
        assert reports["fp16"]["overlap"] > 0.97
        assert 0.8 < reports["int8"]["overlap"] <= reports["fp16"]["overlap"]
        assert len(result.lines()) == 4
        assert "top-20 overlap with the Recommender 100.00%" in result.lines()[0]
        assert "not measured on a data set" in result.lines()[3]
        for name, facts in entry["variants"].items():
            assert facts["bytes"] == {part: graph(bundle, part, name).stat().st_size for part in GRAPHS}

    def test_the_sessions(self, bundle: Bundle) -> None:
        sessions = parity.edge_sessions(bundle, seed=0)
        lengths = sessions.lengths
        assert {1, 2, MAX_LEN - 1, MAX_LEN, MAX_LEN + 1, MAX_LEN + 9} <= set(lengths.tolist())
        uniform = [len(set(clicks.tolist())) == 1 for clicks in sessions]
        assert np.count_nonzero(lengths[uniform] == MAX_LEN) == 2
        assert len(np.unique(sessions.items)) > N / 2
        assert len(parity.edge_sessions(save_like(bundle, max_session_length=1), seed=0)) == len(sessions) - 1

    def test_it_finds_what_is_wrong(self, bundle: Bundle) -> None:
        truth = parity.Truth.of(bundle, parity.edge_sessions(bundle, seed=0))
        encoder, recommender = (open_graph(graph(bundle, name)) for name in GRAPHS)
        assert parity.measure(truth, encoder, recommender).misplaced == 0

        def late(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            items, scores = recommender(feed)
            return [np.roll(items, 1, axis=1), scores]

        def louder(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            items, scores = recommender(feed)
            return [items, scores + np.float32(0.001)]

        def silent(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            return [encoder(feed)[0] * np.float32(np.nan)]

        wrong = parity.measure(truth, encoder, late)
        assert wrong.places_equal < 0.1
        assert wrong.overlap == 1
        assert parity.TOLERANCE < parity.measure(truth, encoder, louder).score_error < 0.00101
        assert parity.measure(truth, encoder, louder).misplaced > 1000
        assert parity.measure(truth, silent, recommender).query_error == np.inf
        with pytest.raises(BundleError, match="the exported graph gives"):
            parity.measure(truth, encoder, lambda feed: [array[:, :5] for array in recommender(feed)])

    @pytest.mark.parametrize("layer", ["itl_query_bias", "norm_weight", "position_embedding"])
    def test_a_graph_that_differs_is_not_exported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str
    ) -> None:
        save_random(tmp_path / "bundle", **SETTINGS)
        before = contents(tmp_path / "bundle")
        make = onnx_build.whole_graph

        def wrong(model: Model, *rest: Any) -> GraphModel:
            changed = model.weights[layer].copy()
            changed[..., 0] += 0.01
            return make(replace(model, weights={**model.weights, layer: changed}), *rest)

        monkeypatch.setattr(onnx_build, "whole_graph", wrong)
        with pytest.raises(BundleError, match=r"the float32 graphs of .* differ from the model") as caught:
            export_onnx(tmp_path / "bundle")
        assert "\n" not in str(caught.value)
        assert contents(tmp_path / "bundle") == before

    def test_numbers_too_large_for_fp16_are_not_exported(self, tmp_path: Path) -> None:
        parts = bundle_parts(**SETTINGS)
        parts["weights"]["item_embedding"] *= np.float32(1e6)
        save_parts(tmp_path / "bundle", **parts)
        before = contents(tmp_path / "bundle")
        with pytest.raises(BundleError, match=r"the fp16 graphs of .* leave fp16 out of --variants") as caught:
            export_onnx(tmp_path / "bundle", ["fp16"])
        assert "\n" not in str(caught.value)
        assert contents(tmp_path / "bundle") == before

    def test_a_graph_that_is_not_valid_is_not_exported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_random(tmp_path / "bundle", **SETTINGS)
        before = contents(tmp_path / "bundle")
        make = onnx_build.encoder_graph

        def wrong(*arguments: Any, **more: Any) -> GraphModel:
            changed = make(*arguments, **more)
            changed.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = D + 1
            return changed

        monkeypatch.setattr(onnx_build, "encoder_graph", wrong)
        with pytest.raises(BundleError, match="the exported graph encoder is not valid ONNX") as caught:
            export_onnx(tmp_path / "bundle", ["float32"])
        assert "\n" not in str(caught.value)
        assert contents(tmp_path / "bundle") == before


def save_like(bundle: Bundle, **changes: Any) -> Bundle:
    folder = bundle.folder.parent / "-".join(f"{name}{value}" for name, value in changes.items())
    return save_random(folder, **{**SETTINGS, **changes})


ITEMS, SAMPLES = 120, 60  # of the bundles and data sets below


def samples_of(bundle: Bundle, timed: bool) -> Samples:
    """Return targets that the recommender finds, for half of the samples."""
    rng = np.random.default_rng(4)
    lists = [rng.integers(0, ITEMS, rng.integers(1, 7)) for _ in range(SAMPLES)]
    times = None
    if timed:
        times = np.concatenate([END + 1000 * place + np.arange(len(clicks)) for place, clicks in enumerate(lists)])
    prefixes = Sessions.from_lists(lists)
    prefixes = Sessions(prefixes.items, prefixes.offsets, times)
    ranked, _ = Recommender.load(bundle.folder).rank(prefixes, 10)
    targets = np.where(np.arange(SAMPLES) % 2, ranked[:, 3], rng.integers(0, ITEMS, SAMPLES)).astype(np.int32)
    later = None if times is None else np.full(SAMPLES, END + 10**6)
    return Samples(prefixes, targets, np.arange(SAMPLES, dtype=np.int32), later)


def dataset_of(bundle: Bundle, samples: Samples, folder: Path) -> Path:
    dataset = Dataset("shop", samples.prefixes, samples, bundle.ids, 1, {}, "")
    dataset.save(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["memory", "timed"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bundle, Samples, Path]:
    bundle = save_kind("timed" if request.param else "memory", tmp_path / "bundle", ITEMS)
    samples = samples_of(bundle, request.param)
    return bundle, samples, dataset_of(bundle, samples, tmp_path / "dataset")


def test_the_whole_ranks_the_test_split_as_the_recommender_does(
    case: tuple[Bundle, Samples, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, samples, dataset = case
    command = ["export", str(bundle.folder), "--onnx", "--variants", "float32", "--dataset", str(dataset)]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["onnx"] == printed["recommender"]
    assert printed["places_equal"] > 99.9
    assert printed["variants"] == {}
    entry = Bundle.load(bundle.folder).manifest["onnx"]
    assert printed["graphs"] == entry
    assert entry["quality"]["command"] == "mtaw-fast export BUNDLE --onnx --dataset DATASET"
    assert entry["quality"]["samples"] == SAMPLES
    if bundle.model.trends is None:  # with trends the evaluation also uses the times of the clicks
        report = evaluate(Recommender.load(bundle.folder), samples)
        assert printed["onnx"]["P@20"] == pytest.approx(report.metrics["P@20"], abs=1e-3)
        assert printed["onnx"]["MRR@20"] == pytest.approx(report.metrics["MRR@20"], abs=1e-3)
    assert printed["onnx"]["P@20"] > 50


def test_a_part_is_reported_as_one(case: tuple[Bundle, Samples, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, _, dataset = case
    command = ["export", str(bundle.folder), "--onnx", "--variants", "float32", "--part", "encoder"]
    assert main([*command, "--dataset", str(dataset)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "encoder.onnx is only a part: no external ids, search" in lines[1]
    assert "the Recommender: " in lines[-1]
    assert "recommender" not in Bundle.load(bundle.folder).manifest["files"]


def test_a_graph_that_ranks_worse_is_not_exported(
    case: tuple[Bundle, Samples, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _, dataset = case
    before = {path.name for path in bundle.folder.iterdir()}
    compare = parity.compare

    def worse(samples: Samples, served: Any, rankers: Mapping[str, Any], say: Any) -> dict[str, parity.Quality]:
        qualities = compare(samples, served, rankers, say)
        real = qualities["int8"]
        return qualities | {"int8": parity.Quality(real.p - 0.2, real.mrr, 99, 0, real.places)}

    monkeypatch.setattr(parity, "compare", worse)
    with pytest.raises(BundleError, match=r"the int8 graph of .* leave int8 out of --variants") as caught:
        export_onnx(bundle.folder, ["float32", "int8"], dataset=Dataset.load(dataset))
    assert "\n" not in str(caught.value)
    assert {path.name for path in bundle.folder.iterdir()} == before


def test_promises() -> None:
    served = parity.Quality(50.0, 20.0)
    fine = parity.Quality(50.015, 20.0, 99.95, 1, 100_000)
    assert parity.shortfall("float32", "whole", fine, served) is None
    for other in (
        parity.Quality(50.03, 20.0, 100, 0, 100_000),
        parity.Quality(50.0, 20.0, 99.8, 0, 100_000),
        parity.Quality(50.0, 20.0, 99.95, 11, 100_000),
    ):
        assert parity.shortfall("float32", "whole", other, served) is not None
    assert parity.shortfall("int8", "whole", parity.Quality(50.09, 20.0, 80, 900, 1000), served) is None
    assert parity.shortfall("int8", "whole", parity.Quality(49.89, 20.0, 80, 900, 1000), served) is not None
    assert parity.shortfall("float32", "encoder", parity.Quality(10.0, 2.0, 5, 900, 1000), served) is None


def test_counts_by_hand() -> None:
    class Fixed:
        def __init__(self, ids: list[list[int]], scores: list[list[float]]) -> None:
            self.ids, self.scores = np.full((2, 21), -1), np.full((2, 21), -np.inf, np.float32)
            self.ids[:, :3], self.scores[:, :3] = ids, scores

        def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
            return self.ids, self.scores

    served = Fixed([[5, 6, 7], [1, 2, 3]], [[3, 2, 1], [3, 2, 1]])
    other = Fixed([[6, 5, 7], [1, 2, 4]], [[3, 2, 1], [3, 2, 0.5]])
    samples = Samples(Sessions.from_lists([[0], [0]]), np.array([6, 3], np.int32), np.arange(2, dtype=np.int32))
    qualities = parity.compare(samples, served, {"float32": other}, lambda _: None)
    assert (qualities["recommender"].p, qualities["recommender"].mrr) == pytest.approx((100, 100 * (1 / 2 + 1 / 3) / 2))
    graph = qualities["float32"]
    assert (graph.p, graph.mrr) == pytest.approx((50, 50))
    assert (graph.places, graph.apart) == (6, 1)  # two places with the right scores, one with another
    assert graph.places_equal == pytest.approx(50)
