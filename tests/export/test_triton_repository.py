"""The model repository for a Triton Inference Server: the public schema, and the answers of its graph."""

from __future__ import annotations

import re
from pathlib import Path

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

from mtaw_fast.export.graph_ranker import Feeds, open_graph  # noqa: E402
from mtaw_fast.export.triton_repository import config, spread, write_repository  # noqa: E402

N = 90


@pytest.fixture(scope="module", params=["ints", "timed"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_kind(request.param, tmp_path_factory.mktemp(request.param) / "bundle", N)


def test_the_configuration_is_the_graphs(bundle: Bundle, tmp_path: Path) -> None:
    version = write_repository(bundle.folder, tmp_path / "models")
    text = (tmp_path / "models" / "recommender" / "config.pbtxt").read_text()
    stated = re.findall(r'name: "(\w+)", data_type: TYPE_(\w+), dims: \[ (-?\d+) \]', text)
    graph = onnx.load(version / "model.onnx").graph
    real = []
    for value in (*graph.input, *graph.output):
        tensor = value.type.tensor_type
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).replace("FLOAT", "FP32")
        batch, axis = tensor.shape.dim
        assert batch.dim_param == "batch"
        real.append((value.name, kind, str(axis.dim_value or -1)))
    assert stated == real


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
