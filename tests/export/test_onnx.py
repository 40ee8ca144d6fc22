"""The exported ONNX graphs: their answers, their metadata, and their export into a bundle."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, GRAPHS, VARIANTS, model_hash
from mtaw_fast.cli import main
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, MissingPackageError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.encoders import NumpyEncoder, make_encoder
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, save_parts, save_random

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402

from mtaw_fast.export import onnx_build, parity  # noqa: E402
from mtaw_fast.export.graph_ranker import open_graph, padded  # noqa: E402
from mtaw_fast.export.onnx_graph import Graph  # noqa: E402
from mtaw_fast.export.onnx_model import ExportedGraphs, export_onnx  # noqa: E402

N, D, MAX_LEN = 400, 20, 24
SETTINGS: dict[str, Any] = {"n_items": N, "embedding_dim": D, "max_positions": 9, "max_session_length": MAX_LEN}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def graph(bundle: Bundle, name: str, variant: str = "float32") -> Path:
    path = bundle.file(GRAPH_PARTS[name, variant])  # type: ignore[index]
    assert path is not None
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, ExportedGraphs]:
    """With recent clicks in the query; ranking/encoders/test_encoders.py tests the graph without them."""
    folder = tmp_path_factory.mktemp("onnx") / "bundle"
    save_random(folder, **SETTINGS, recent_weight=2.0, recent_decay=0.7)
    done = export_onnx(folder)
    return Bundle.load(folder), done


@pytest.fixture
def bundle(exported: tuple[Bundle, ExportedGraphs]) -> Bundle:
    return exported[0]


@pytest.fixture
def sessions() -> Sessions:
    rng = np.random.default_rng(2)
    lengths = [1, 3, 40, MAX_LEN, 2, MAX_LEN + 1, 9, 10, 1, MAX_LEN - 1]
    return Sessions.from_lists([rng.integers(0, N, length) for length in lengths])


class TestGraphs:
    """The float32 graphs against the numpy encoder and the exact index: parity compares them with the PyTorch model."""

    def test_a_padded_batch(self, bundle: Bundle, sessions: Sessions) -> None:
        ids, lengths = padded(sessions)
        expected = NumpyEncoder(bundle.config, bundle.weights).encode(sessions)
        (query,) = open_graph(graph(bundle, "encoder"))({"ids": ids, "lengths": lengths})
        assert query.dtype == np.float32
        np.testing.assert_allclose(query, expected, rtol=0, atol=2e-6)
        wide = np.pad(ids, ((0, 0), (0, 7)), constant_values=-1)  # more padding than needed
        (query,) = open_graph(graph(bundle, "encoder"))({"ids": wide, "lengths": lengths})
        np.testing.assert_allclose(query, expected, rtol=0, atol=2e-6)

    def test_a_session_without_clicks_gives_zero(self, bundle: Bundle) -> None:
        ids = np.array([[-1, -1], [4, 5]], np.int32)
        (query,) = open_graph(graph(bundle, "encoder"))({"ids": ids, "lengths": np.array([0, 2], np.int32)})
        assert not query[0].any()
        assert np.linalg.norm(query[1]) == pytest.approx(1, abs=1e-6)

    @pytest.mark.parametrize("wrong", [N, -N - 1])
    def test_an_id_outside_the_catalog_is_an_error(self, bundle: Bundle, wrong: int) -> None:
        with pytest.raises(Exception, match=r"out of (data )?bounds"):
            open_graph(graph(bundle, "encoder"))(
                {"ids": np.array([[1, wrong]], np.int32), "lengths": np.array([2], np.int32)}
            )

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("name", GRAPHS)
    def test_the_metadata_of_a_graph(self, bundle: Bundle, name: str, variant: str) -> None:
        path = graph(bundle, name, variant)
        onnx.checker.check_model(path, full_check=True)
        model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
        assert model.opset_import[0].version >= 18
        axes = {
            value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in (*model.graph.input, *model.graph.output)
        }
        if name == "encoder":
            assert axes.pop("item_embedding", ["items", D]) == ["items", D]
            assert axes == {"ids": ["batch", "length"], "lengths": ["batch"], "query": ["batch", D]}
        else:
            inputs = {"session": ["batch", "length"], "lengths": ["batch"], "k": [1], "exclude": ["n"], "allow": ["m"]}
            inputs |= {"use_allow": [1], "exclude_seen": [1]}
            assert axes == {**inputs, "items": ["batch", "k"], "scores": ["batch", "k"]}
        found = {entry.key: entry.value for entry in model.metadata_props}
        assert found["mtaw_fast.model"] == model_hash(bundle.manifest)
        assert found["mtaw_fast.bundle_format_version"] == str(bundle.manifest["format_version"])
        assert found["mtaw_fast.variant"] == variant
        assert (found["mtaw_fast.n_items"], found["mtaw_fast.max_len"]) == (str(N), str(MAX_LEN))
        assert found["mtaw_fast.holds"].startswith("only the encoder" if name == "encoder" else "the whole:")
        assert all(value.doc_string for value in (*model.graph.input, *model.graph.output))

    def test_the_variants_are_what_they_claim(self, bundle: Bundle) -> None:
        sizes = {key: graph(bundle, *key).stat().st_size for key in GRAPH_PARTS}
        types = {variant: self.large_types(graph(bundle, "recommender", variant)) for variant in VARIANTS}
        assert types == {
            "float32": {onnx.TensorProto.FLOAT},
            "fp16": {onnx.TensorProto.FLOAT16},
            "int8": {onnx.TensorProto.UINT8, onnx.TensorProto.INT8},
        }
        for name in GRAPHS:
            assert sizes[name, "float32"] > sizes[name, "fp16"] > sizes[name, "int8"]

    @staticmethod
    def large_types(path: Path) -> set[int]:
        return {tensor.data_type for tensor in onnx.load(path).graph.initializer if np.prod(tensor.dims) >= N * D}


class TestParity:
    def test_the_report(self, exported: tuple[Bundle, ExportedGraphs]) -> None:
        bundle, done = exported
        entry = bundle.manifest["onnx"]
        assert done.entry == entry
        assert list(entry["variants"]) == list(VARIANTS)
        reports = {name: facts["parity"] for name, facts in entry["variants"].items()}
        assert reports["float32"]["score_error"] < 2e-5
        assert (reports["float32"]["misplaced"], reports["float32"]["overlap"]) == (0, 1)
        assert reports["float32"]["places_equal"] > 0.999
        assert reports["fp16"]["overlap"] > 0.97
        assert 0.8 < reports["int8"]["overlap"] <= reports["fp16"]["overlap"]
        assert len(done.lines()) == 4
        assert "top-20 overlap with the Recommender 100.00%" in done.lines()[0]
        assert "not measured on a data set" in done.lines()[3]
        for name, facts in entry["variants"].items():
            assert facts["bytes"] == {one: graph(bundle, one, name).stat().st_size for one in GRAPHS}

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
            parity.measure(truth, encoder, lambda feed: [one[:, :5] for one in recommender(feed)])

    @pytest.mark.parametrize("layer", ["itl_query_bias", "norm_weight", "position_embedding"])
    def test_a_graph_that_differs_is_not_exported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layer: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        save_random(tmp_path / "bundle", **SETTINGS)
        before = contents(tmp_path / "bundle")
        make = onnx_build.whole_graph

        def wrong(model: Model, *rest: Any) -> Graph:
            changed = model.weights[layer].copy()
            changed[..., 0] += 0.01
            return make(replace(model, weights={**model.weights, layer: changed}), *rest)

        monkeypatch.setattr(onnx_build, "whole_graph", wrong)
        with pytest.raises(BundleError, match=r"the float32 graphs of .* differ from the product") as caught:
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

        def wrong(*arguments: Any, **more: Any) -> Graph:
            made = make(*arguments, **more)
            made.model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = D + 1
            return made

        monkeypatch.setattr(onnx_build, "encoder_graph", wrong)
        with pytest.raises(BundleError, match="the exported graph encoder is not valid ONNX") as caught:
            export_onnx(tmp_path / "bundle", ["float32"])
        assert "\n" not in str(caught.value)
        assert contents(tmp_path / "bundle") == before


def save_like(bundle: Bundle, **changes: Any) -> Bundle:
    folder = bundle.folder.parent / "-".join(f"{name}{value}" for name, value in changes.items())
    return save_random(folder, **{**SETTINGS, **changes})


class TestInABundle:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        save_random(tmp_path / "bundle", **SETTINGS)
        return tmp_path / "bundle"

    def test_graphs_are_added_and_removed(self, folder: Path) -> None:
        before = contents(folder)
        export_onnx(folder, ["int8", "float32"])
        bundle = Bundle.load(folder)
        assert list(bundle.manifest["onnx"]["variants"]) == ["float32", "int8"]
        files = {entry["file"] for entry in bundle.manifest["files"].values()}
        assert {path.name for path in folder.iterdir()} == {"manifest.json", *files}
        export_onnx(folder, ["fp16"])
        names = {path.name.split("-")[0] for path in folder.iterdir() if path.suffix == ".onnx"}
        assert names == {"encoder_fp16", "recommender_fp16"}
        assert export_onnx(folder, []).entry is None
        assert contents(folder).keys() == before.keys()
        assert "onnx" not in Bundle.load(folder).manifest

    def test_the_same_export_gives_the_same_files(self, folder: Path) -> None:
        export_onnx(folder, ["float32", "fp16"])
        first = contents(folder)
        export_onnx(folder, ["float32", "fp16"])
        assert contents(folder) == first

    def test_large_arrays_go_to_a_file_of_their_own(self, folder: Path) -> None:
        export_onnx(folder)
        whole = Bundle.load(folder)
        inside = {key: graph(whole, *key).stat().st_size for key in GRAPH_PARTS}
        export_onnx(folder, external_over=10_000)
        bundle = Bundle.load(folder)
        files = {entry["file"] for entry in bundle.manifest["files"].values()}
        assert {path.name for path in folder.iterdir()} == {"manifest.json", *files}
        for (name, variant), part in GRAPH_PARTS.items():
            data = bundle.file(f"{part}_data")
            assert data is not None
            path = graph(bundle, name, variant)
            # The rest: nodes, small arrays, and in the recommender the table of ids.
            assert path.stat().st_size < inside[name, variant] - 10_000
            onnx.checker.check_model(path, full_check=True)
            stated = {
                entry.value
                for tensor in onnx.load(path, load_external_data=False).graph.initializer
                for entry in tensor.external_data
                if entry.key == "location"
            }
            assert stated == {data.name}
        sessions = Sessions.from_lists([[3, 4, 5], [9]])
        expected = make_encoder("onnx", whole.__class__.load(folder)).encode(sessions)
        np.testing.assert_allclose(
            expected, NumpyEncoder(bundle.config, bundle.weights).encode(sessions), rtol=0, atol=2e-6
        )
        report = bundle.manifest["onnx"]["variants"]
        for facts, was in zip(report.values(), whole.manifest["onnx"]["variants"].values(), strict=True):
            assert facts["parity"] == was["parity"]
        data = bundle.file("encoder_data")
        assert data is not None
        data.write_bytes(data.read_bytes()[:-1] + b"x")
        with pytest.raises(BundleError, match=r"encoder_data.* is damaged"):
            Bundle.load(folder)

    def test_a_bundle_that_changed_meanwhile_is_left_alone(self, folder: Path) -> None:
        def replace_bundle(line: str) -> None:
            if line.startswith("writing"):
                save_parts(folder, **bundle_parts(**SETTINGS, seed=5), overwrite=True)

        with pytest.raises(BundleError, match="was replaced while its onnx was being made; export it again"):
            export_onnx(folder, ["float32"], say=replace_bundle)
        assert "onnx" not in Bundle.load(folder).manifest
        # Also a bundle with the same weights and other click counts, which change the whole graph.
        model = Bundle.load(folder).model

        def recount(line: str) -> None:
            if line.startswith("writing"):
                counted = replace(model, popularity=model.popularity + 1)
                Bundle.save(folder, counted, metrics={}, dataset={}, overwrite=True)

        with pytest.raises(BundleError, match="was replaced while its onnx was being made; export it again"):
            export_onnx(folder, ["float32"], say=recount)
        assert not list(folder.glob("*.onnx"))

    def test_a_new_training_removes_them(self, folder: Path) -> None:
        export_onnx(folder, ["float32"], external_over=0)
        (folder / "encoder-mine.onnx").write_text("foreign")
        (folder / "encoder_int8_data-0123456789abcdef.bin").write_text("of a killed export")
        (folder / ".recommender_fp16.onnx.draft").write_text("of a killed export")
        save_parts(folder, **bundle_parts(**SETTINGS, seed=5), overwrite=True)
        assert [path.name for path in folder.iterdir() if "encoder" in path.name or "recomm" in path.name] == [
            "encoder-mine.onnx"
        ]

    def test_a_full_disk_is_reported_in_one_line(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = contents(folder)
        monkeypatch.setattr("tempfile.tempdir", str(folder / "not" / "there"))
        with pytest.raises(BundleError, match=r"cannot write the graphs of .*No such file or directory; set TMPDIR"):
            export_onnx(folder, ["float32"])
        assert contents(folder) == before

    def test_misuse(self, folder: Path) -> None:
        with pytest.raises(UsageError, match="there is no variant 'int4' of the ONNX graphs; choose from float32, fp"):
            export_onnx(folder, ["int4"])
        with pytest.raises(UsageError, match="external_over is a number of bytes"):
            export_onnx(folder, external_over=-1)

    @pytest.mark.parametrize(("package", "extra"), [("onnx", "train"), ("onnxruntime", "cpu"), ("torch", "train")])
    def test_without_a_package(self, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            MissingPackageError, match=re.escape(f"'{package}' is not installed: {install_command(extra)}")
        ):
            export_onnx(folder)


class TestCommand:
    def test_export_info_recommend(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "bundle"
        save_random(folder, **SETTINGS)
        assert main(["export", str(folder), "--onnx", "--variants", "float32,int8", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        nothing = dict.fromkeys(("onnx", "recommender", "places_equal", "variants"))
        assert found == {**nothing, "graphs": Bundle.load(folder).manifest["onnx"]}
        assert main(["info", str(folder), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)["onnx"]
        assert list(facts) == ["encoder", "encoder_int8", "recommender", "recommender_int8"]
        assert facts["encoder"]["overlap"] == 1
        assert (folder / facts["recommender_int8"]["file"]).stat().st_size == facts["recommender_int8"]["bytes"]
        assert main(["recommend", str(folder), "sku-7", "sku-9", "--encoder", "onnx", "-k", "5", "--json"]) == 0
        got = json.loads(capsys.readouterr().out)
        assert main(["recommend", str(folder), "sku-7", "sku-9", "-k", "5", "--json"]) == 0
        want = json.loads(capsys.readouterr().out)
        assert got["items"] == want["items"]
        assert got["scores"] == pytest.approx(want["scores"], abs=1e-5)
        assert main(["export", str(folder), "--onnx", "--variants", "none", "--index", "auto"]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == "onnx: the bundle has no graphs now"
        assert second.startswith("index: 400 items need no index")

    def test_misuse(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = str(tmp_path / "bundle")
        save_random(tmp_path / "bundle", **SETTINGS)
        for arguments, words in (
            ([], "nothing to export; give --onnx or --index auto"),
            (["--variants", "int8", "--index", "auto"], "--variants needs --onnx"),
            (["--onnx", "--variants", "int7"], "there is no variant 'int7'"),
            (["--part", "encoder", "--index", "auto"], "--part needs --onnx"),
            (["--triton-repository", folder, "--index", "auto"], "--triton-repository needs --onnx"),
            (["--onnx", "--part", "encoder", "--triton-repository", folder], "needs the whole graph"),
            (["--onnx", "--variants", "int8", "--triton-repository", folder], "needs the float32 graph"),
        ):
            assert main(["export", folder, *arguments]) == 2
            assert words in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["export", "--help"])
        text = capsys.readouterr().out
        assert "mtaw-fast export shop.bundle --onnx" in text
        assert "ranks as the Recommender does" in " ".join(text.split())


def test_it_ranks_as_the_recommender(bundle: Bundle, sessions: Sessions) -> None:
    native = Recommender.load(bundle.folder, index="numpy").rank(sessions, 20)
    onnx_ids, onnx_scores = Recommender.load(bundle.folder, encoder="onnx", index="numpy").rank(sessions, 20)
    np.testing.assert_allclose(onnx_scores, native[1], rtol=0, atol=2e-5)
    assert (onnx_ids == native[0]).mean() > 0.99


def test_onnxruntime_is_the_one_that_export_names(bundle: Bundle) -> None:
    assert bundle.manifest["onnx"]["versions"] == {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
