"""The exported ONNX graphs: their answers, their metadata, and their export into a bundle."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, GRAPHS, VARIANTS, model_hash
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, MissingPackageError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.ranking.encoders import NumpyEncoder, make_encoder
from tests.support.export.bundles import MAX_LEN, SETTINGS, D, N, contents, graph
from tests.support.random_bundle import bundle_parts, save_parts, save_random
from tests.support.ranking.context_model import context_model

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

import onnx  # noqa: E402

from mtaw_fast.export.graph_ranker import open_graph, padded  # noqa: E402
from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402


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
            inputs |= {"use_allow": [1], "exclude_seen": [1], "available": [axes["available"][0]]}
            assert axes == {**inputs, "items": ["batch", "k"], "scores": ["batch", "k"]}
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        assert metadata["mtaw_fast.model"] == model_hash(bundle.manifest)
        assert metadata["mtaw_fast.bundle_format_version"] == str(bundle.manifest["format_version"])
        assert metadata["mtaw_fast.variant"] == variant
        assert (metadata["mtaw_fast.n_items"], metadata["mtaw_fast.max_len"]) == (str(N), str(MAX_LEN))
        assert metadata["mtaw_fast.holds"].startswith("only the encoder" if name == "encoder" else "the whole:")
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

    def test_large_arrays_go_to_a_file_of_their_own(self, folder: Path) -> None:
        export_onnx(folder)
        whole = Bundle.load(folder)
        sizes = {key: graph(whole, *key).stat().st_size for key in GRAPH_PARTS}
        export_onnx(folder, external_over=10_000)
        bundle = Bundle.load(folder)
        files = {entry["file"] for entry in bundle.manifest["files"].values()}
        assert {path.name for path in folder.iterdir()} == {"manifest.json", *files}
        for (name, variant), part in GRAPH_PARTS.items():
            data = bundle.file(f"{part}_data")
            assert data is not None
            path = graph(bundle, name, variant)
            # The rest: nodes, small arrays, and in the recommender the table of ids.
            assert path.stat().st_size < sizes[name, variant] - 10_000
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

        with pytest.raises(BundleError, match="was changed while its onnx was being made; run the command again"):
            export_onnx(folder, ["float32"], say=replace_bundle)
        assert "onnx" not in Bundle.load(folder).manifest
        # Also a bundle with the same weights and other click counts, which change the whole graph.
        model = Bundle.load(folder).model

        def recount(line: str) -> None:
            if line.startswith("writing"):
                counted = replace(model, popularity=model.popularity + 1)
                Bundle.save(folder, counted, metrics={}, dataset={}, overwrite=True)

        with pytest.raises(BundleError, match="was changed while its onnx was being made; run the command again"):
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

    def test_a_ranker_that_reads_context_is_refused_in_one_line(self, folder: Path) -> None:
        Bundle.save(folder, context_model(), metrics={}, dataset={"name": "x", "fingerprint": "y"}, overwrite=True)
        with pytest.raises(UsageError, match="--part encoder") as caught:
            export_onnx(folder, ["float32"])
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("package", "extra"), [("onnx", "train"), ("onnxruntime", "cpu"), ("torch", "train")])
    def test_without_a_package(self, folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(
            MissingPackageError, match=re.escape(f"'{package}' is not installed: {install_command(extra)}")
        ):
            export_onnx(folder)


def test_an_id_with_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    parts = bundle_parts(n_items=2, embedding_dim=4, max_session_length=3)
    save_parts(tmp_path / "bundle", **parts | {"ids": ItemIds.from_list(["shoe", "hat-\ud800"])})
    with pytest.raises(UsageError, match=r"the item id 'hat-\\ud800', .* \(--part encoder\)"):
        export_onnx(tmp_path / "bundle", ["float32"])
    assert export_onnx(tmp_path / "bundle", ["float32"], part="encoder").entry is not None
