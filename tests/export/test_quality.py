"""The quality of graphs on a data set: the report, and the graphs that are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.evaluation import evaluate
from mtaw_fast.recommender import Recommender
from tests.support.export.bundles import END, save_kind

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

from mtaw_fast.export import parity as quality  # noqa: E402
from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402

N, SAMPLES = 120, 60


def samples_of(bundle: Bundle, timed: bool) -> Samples:
    """Return targets that the recommender finds, for half of the samples."""
    rng = np.random.default_rng(4)
    lists = [rng.integers(0, N, rng.integers(1, 7)) for _ in range(SAMPLES)]
    times = None
    if timed:
        times = np.concatenate([END + 1000 * place + np.arange(len(clicks)) for place, clicks in enumerate(lists)])
    prefixes = Sessions.from_lists(lists)
    prefixes = Sessions(prefixes.items, prefixes.offsets, times)
    ranked, _ = Recommender.load(bundle.folder).rank(prefixes, 10)
    targets = np.where(np.arange(SAMPLES) % 2, ranked[:, 3], rng.integers(0, N, SAMPLES)).astype(np.int32)
    later = None if times is None else np.full(SAMPLES, END + 10**6)
    return Samples(prefixes, targets, np.arange(SAMPLES, dtype=np.int32), later)


def dataset_of(bundle: Bundle, samples: Samples, folder: Path) -> Path:
    dataset = Dataset("shop", samples.prefixes, samples, bundle.ids, 1, {}, "")
    dataset.save(folder)
    return folder


@pytest.fixture(params=[False, True], ids=["memory", "timed"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bundle, Samples, Path]:
    bundle = save_kind("timed" if request.param else "memory", tmp_path / "bundle", N)
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


def test_the_report_of_a_part(case: tuple[Bundle, Samples, Path], capsys: pytest.CaptureFixture[str]) -> None:
    bundle, _, dataset = case
    command = ["export", str(bundle.folder), "--onnx", "--variants", "float32", "--part", "encoder"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "encoder.onnx is only a part: no external ids, search" in lines[1]
    assert "--dataset DATASET compares P@20 and MRR@20" in lines[2]
    assert set(Bundle.load(bundle.folder).manifest["files"]) >= {"encoder"}
    assert "recommender" not in Bundle.load(bundle.folder).manifest["files"]
    assert main([*command, "--dataset", str(dataset), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["onnx"]["P@20"] < printed["recommender"]["P@20"] - 10
    assert main([*command, "--dataset", str(dataset)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"P@20 {printed['onnx']['P@20']:.2f}" in last
    assert f"the Recommender: {printed['recommender']['P@20']:.2f}" in last


def test_a_graph_that_ranks_worse_is_not_exported(
    case: tuple[Bundle, Samples, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _, dataset = case
    before = {path.name for path in bundle.folder.iterdir()}
    compare = quality.compare

    def worse(samples: Samples, served: Any, rankers: Mapping[str, Any], say: Any) -> dict[str, quality.Quality]:
        qualities = compare(samples, served, rankers, say)
        real = qualities["int8"]
        return qualities | {"int8": quality.Quality(real.p - 0.2, real.mrr, 99, 0, real.places)}

    monkeypatch.setattr(quality, "compare", worse)
    with pytest.raises(BundleError, match=r"the int8 graph of .* leave int8 out of --variants") as caught:
        export_onnx(bundle.folder, ["float32", "int8"], dataset=Dataset.load(dataset))
    assert "\n" not in str(caught.value)
    assert {path.name for path in bundle.folder.iterdir()} == before


def test_promises() -> None:
    served = quality.Quality(50.0, 20.0)
    fine = quality.Quality(50.015, 20.0, 99.95, 1, 100_000)
    assert quality.shortfall("float32", "whole", fine, served) is None
    for other in (
        quality.Quality(50.03, 20.0, 100, 0, 100_000),
        quality.Quality(50.0, 20.0, 99.8, 0, 100_000),
        quality.Quality(50.0, 20.0, 99.95, 11, 100_000),
    ):
        assert quality.shortfall("float32", "whole", other, served) is not None
    assert quality.shortfall("int8", "whole", quality.Quality(50.09, 20.0, 80, 900, 1000), served) is None
    assert quality.shortfall("int8", "whole", quality.Quality(49.89, 20.0, 80, 900, 1000), served) is not None
    assert quality.shortfall("float32", "encoder", quality.Quality(10.0, 2.0, 5, 900, 1000), served) is None


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
    qualities = quality.compare(samples, served, {"float32": other}, lambda _: None)
    assert (qualities["recommender"].p, qualities["recommender"].mrr) == pytest.approx((100, 100 * (1 / 2 + 1 / 3) / 2))
    graph = qualities["float32"]
    assert (graph.p, graph.mrr) == pytest.approx((50, 50))
    assert (graph.places, graph.apart) == (6, 1)  # two places with the right scores, one with another
    assert graph.places_equal == pytest.approx(50)
