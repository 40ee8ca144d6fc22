"""The model repository for a Triton Inference Server: the public schema, and the answers of its graph."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.recommender import Recommender
from tests.support.export.bundles import END, save_kind

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

import onnx  # noqa: E402
from google.protobuf import text_format  # noqa: E402

from mtaw_fast.export.graph_ranker import Feeds, open_graph  # noqa: E402
from mtaw_fast.export.triton_repository import config, spread, write_repository  # noqa: E402

N = 90


@pytest.fixture(scope="module", params=["ints", "timed"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_kind(request.param, tmp_path_factory.mktemp(request.param) / "bundle", N)


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Return the schema of NVIDIA's client, without the parts that need gRPC."""
    module_spec = importlib.util.find_spec("tritonclient")
    if module_spec is None or not module_spec.submodule_search_locations:
        pytest.skip("tritonclient is not installed: pip install tritonclient")
    path = Path(module_spec.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_configuration_is_the_graphs(bundle: Bundle, schema: ModuleType, tmp_path: Path) -> None:
    version = write_repository(bundle.folder, tmp_path / "models")
    text = (tmp_path / "models" / "recommender" / "config.pbtxt").read_text()
    parsed: Any = text_format.Parse(text, schema.ModelConfig())
    assert (parsed.name, parsed.backend) == ("recommender", "onnxruntime")
    assert parsed.max_batch_size == 32
    assert parsed.HasField("dynamic_batching")
    assert parsed.version_policy.latest.num_versions == 2
    graph = onnx.load(version / "model.onnx").graph
    kinds = {
        onnx.TensorProto.STRING: "TYPE_STRING", onnx.TensorProto.INT64: "TYPE_INT64",
        onnx.TensorProto.INT32: "TYPE_INT32",
        onnx.TensorProto.BOOL: "TYPE_BOOL", onnx.TensorProto.FLOAT: "TYPE_FP32",
    }  # fmt: skip
    for stated, real in ((parsed.input, graph.input), (parsed.output, graph.output)):
        assert [entry.name for entry in stated] == [entry.name for entry in real]
        for declared, value in zip(stated, real, strict=True):
            tensor = value.type.tensor_type
            assert schema.DataType.Name(declared.data_type) == kinds[tensor.elem_type]
            batch, *rest = tensor.shape.dim
            assert batch.dim_param == "batch"
            assert list(declared.dims) == [axis.dim_value or -1 for axis in rest]


def test_a_second_export_is_the_next_version(bundle: Bundle, tmp_path: Path) -> None:
    assert write_repository(bundle.folder, tmp_path).name == "1"
    assert write_repository(bundle.folder, tmp_path).name == "2"
    assert sorted(path.name for path in (tmp_path / "recommender").iterdir()) == ["1", "2", "config.pbtxt"]
    assert [path.name for path in tmp_path.iterdir()] == ["recommender"]


def test_it_answers_as_the_recommender(bundle: Bundle, tmp_path: Path) -> None:
    run = spread(open_graph(write_repository(bundle.folder, tmp_path, external_over=1000) / "model.onnx"))
    clicks = bundle.ids.external(np.array([3, 8, 11], np.int32))
    items, _ = run(Feeds(bundle).of([clicks, clicks[:1]], 7, now=END))
    now = None if bundle.model.trends is None else END
    rec = Recommender.load(bundle.folder)
    for row, session in enumerate((clicks, clicks[:1])):
        assert items[row].tolist() == rec.recommend(session, 7, at=now).items


def test_another_kind_of_model_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "recommender" / "config.pbtxt"
    other.parent.mkdir()
    other.write_text(config(bundle) + "# of another tool\n")
    with pytest.raises(UsageError, match="is of another model"):
        write_repository(bundle.folder, tmp_path)
    assert [path.name for path in other.parent.iterdir()] == ["config.pbtxt"]


def test_a_folder_that_cannot_be_written(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match=r"cannot write .*; name another --triton-repository"):
        write_repository(bundle.folder, tmp_path / "file" / "models")


def test_the_command(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "m"
    command = ["export", str(bundle.folder), "--onnx", "--variants", "float32", "--triton-repository", str(folder)]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"Triton Inference Server: {folder}/recommender/1")
