"""Parity: the exported graphs against the PyTorch model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPHS, VARIANTS
from mtaw_fast.cli import main
from mtaw_fast.errors import BundleError
from mtaw_fast.model.model import Model
from tests.support.export.bundles import MAX_LEN, SETTINGS, D, N, contents, graph
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
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, capsys: pytest.CaptureFixture[str]
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
        assert main(["export", str(tmp_path / "bundle"), "--onnx"]) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith("mtaw-fast: the float32 graphs of")
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
