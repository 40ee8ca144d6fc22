"""The nodes of exported graphs that run on the CPU if the graphs are opened with CUDA."""

from __future__ import annotations

import pytest

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

import onnx  # noqa: E402

from mtaw_fast.export.onnx_build import Builder  # noqa: E402
from tests.support.export.bundles import KINDS, save_kind  # noqa: E402
from tests.support.export.cuda_operators import left_to_the_cpu  # noqa: E402

IDS = {"LabelEncoder(string)", "Gather(string, int64)", "Identity(string)"}  # of text ids
WHOLE = {  # of the graph `recommender`, in float32
    "plain": IDS,
    "memory": IDS | {"ArgMax(int32)"},
    "ints": {"LabelEncoder(int64)", "ArgMax(int32)"},
    "timed": IDS | {"ArgMax(int32)"},
}
INT8 = {"DynamicQuantizeLinear(float)", "MatMulInteger(uint8, uint8, uint8, uint8)"}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def builder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    folder = tmp_path_factory.mktemp(f"operators-{kind}")
    return Builder(save_kind(kind, folder / "bundle", 260), folder, 2_000_000_000)


@pytest.mark.parametrize("variant", ["float32", "fp16", "int8"])
def test_the_encoder_runs_on_cuda_as_a_whole(builder: Builder, variant: str) -> None:
    assert left_to_the_cpu(onnx.load(builder.build("encoder", variant).model)) == {}


@pytest.mark.parametrize("variant", ["float32", "fp16", "int8"])
def test_what_of_the_whole_graph_does_not(builder: Builder, kind: str, variant: str) -> None:
    operators = left_to_the_cpu(onnx.load(builder.build("recommender", variant).model))
    assert set(operators) == WHOLE[kind] | (INT8 if variant == "int8" else set())


def test_a_type_without_a_kernel_is_seen() -> None:
    """For an operator with kernels for other types, also in a subgraph."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    graph (bool[1] ask, int32[4] x) => (int64[1] y) <int64[1] shape = {1}> {
        y = If (ask) <
            then_branch = left () => (int64[1] a) { a = ArgMax (x) },
            else_branch = right () => (int64[1] b) { b = ConstantOfShape <value = int64[1] {1}> (shape) }>
    }"""
    assert left_to_the_cpu(onnx.parser.parse_model(text)) == {"ArgMax(int32)": 1}
