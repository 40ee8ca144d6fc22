"""The nodes of a graph without a kernel in ONNX Runtime's CUDA provider, by ONNX Runtime's published list.

The list: docs/OperatorKernels.md of microsoft/onnxruntime at 001d12d2, "Operators implemented by
CUDAExecutionProvider", for opset 18 and the operators of our graphs. The provider itself can only be queried with a
card: without one `get_all_opkernel_def` of onnxruntime-gpu 1.31.1 ends the process.

In addition ONNX Runtime moves small nodes that compute shapes to the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, TensorProto, shape_inference

_TYPES = {number: name.lower() for name, number in TensorProto.DataType.items()}
_REAL = {"bfloat16", "double", "float", "float16"}
_SIZED = {"int32", "int64", "uint32", "uint64"}
_WHOLE = _SIZED | {"int8", "int16", "uint8", "uint16"}
_ANY = _REAL | _WHOLE | {"bool"}
_INDEX = {"int32", "int64"}
_COMPARED = (_REAL - {"bfloat16"}) | _SIZED

# Types of every input and output: one set for all, or a set each where they differ (the last holds for the rest).
_CUDA: Mapping[str, tuple[set[str], ...]] = {
    "Abs": (_REAL | _WHOLE,),
    "Add": (_REAL | _WHOLE,),
    "And": ({"bool"},),
    "ArgMax": (_REAL - {"bfloat16"}, {"int64"}),
    "ArgMin": (_REAL - {"bfloat16"}, {"int64"}),
    "Cast": (_ANY,),
    "Concat": (_ANY,),
    "ConstantOfShape": ({"int64"}, _ANY),
    "Cos": (_REAL - {"bfloat16"},),
    "CumSum": ((_REAL - {"bfloat16"}) | _SIZED,),
    "DequantizeLinear": ({"int8", "uint8"}, {"float"}, {"int8", "uint8"}, {"float"}),
    "Div": (_REAL | _WHOLE,),
    "Equal": (_COMPARED | {"bool"}, _COMPARED | {"bool"}, {"bool"}),
    "Exp": (_REAL,),
    "Expand": (_ANY, {"int64"}, _ANY),
    "Gather": (_ANY, _INDEX, _ANY),
    "GatherElements": (_ANY, _INDEX, _ANY),
    "GatherND": (_REAL | {"bool", "int64"}, {"int64"}, _REAL | {"bool", "int64"}),
    "Gemm": (_REAL,),
    "Greater": (_COMPARED, _COMPARED, {"bool"}),
    "GreaterOrEqual": (_COMPARED, _COMPARED, {"bool"}),
    "Identity": (_ANY,),
    "If": ({"bool"}, _ANY | {"string"}),
    "LayerNormalization": (_REAL,),
    "Less": (_COMPARED, _COMPARED, {"bool"}),
    "LessOrEqual": (_COMPARED, _COMPARED, {"bool"}),
    "Log": (_REAL - {"bfloat16"},),
    "Loop": (_ANY | {"string"},),
    "MatMul": (_REAL,),
    "MatMulInteger": ({"int8"}, {"int8"}, {"int8"}, {"int8"}, {"int32"}),
    "Max": (_REAL | _SIZED,),
    "Min": (_REAL | _SIZED,),
    "Mod": (_REAL | _SIZED,),
    "Mul": (_REAL | _WHOLE,),
    "NonZero": ({"bool", "float", "float16", "int32", "int64", "uint8"}, {"int64"}),
    "Not": ({"bool"},),
    "Or": ({"bool"},),
    "Pow": (_REAL | _INDEX,),
    "Range": ({"double", "float", "int16", "int32", "int64"},),
    "Reciprocal": (_REAL - {"bfloat16"},),
    "ReduceL2": ((_REAL - {"bfloat16"}) | {"int32"}, {"int64"}, (_REAL - {"bfloat16"}) | {"int32"}),
    "ReduceMax": ((_REAL - {"bfloat16"}) | _INDEX,),
    "ReduceMin": ((_REAL - {"bfloat16"}) | _INDEX | {"int8", "uint8"},),
    "ReduceSum": (_REAL | _INDEX,),
    "Relu": (_REAL,),
    "Reshape": (_ANY, {"int64"}, _ANY),
    "ScatterElements": (_ANY, _INDEX, _ANY),
    "Shape": (_ANY, {"int64"}),
    "Sin": (_REAL - {"bfloat16"},),
    "Slice": (_ANY, *[_INDEX | _ANY] * 4, _ANY),
    "Softmax": (_REAL,),
    "Sqrt": (_REAL,),
    "Squeeze": (_ANY, {"int64"} | _ANY),
    "Sub": (_REAL | _WHOLE,),
    "TopK": ((_REAL - {"bfloat16"}) | _INDEX,),
    "Transpose": (_ANY,),
    "Unsqueeze": (_ANY, {"int64"} | _ANY),
    "Where": ({"bool"}, _REAL | {"int32", "int64", "uint8"}),
}


def left_to_the_cpu(model: ModelProto) -> dict[str, int]:
    """Return how many nodes of each kind have no CUDA kernel, as 'Operator(types of its inputs)', with subgraphs."""
    counts: dict[str, int] = {}
    for domain, operator, inputs, outputs in _nodes(shape_inference.infer_shapes(model).graph, {}):
        allowed = _CUDA.get(operator) if domain in ("", "ai.onnx") else None
        types = [kind for kind in (*inputs, *outputs) if kind]
        if allowed is None or not all(
            kind in allowed[min(index, len(allowed) - 1)] for index, kind in enumerate(types)
        ):
            name = f"{operator}({', '.join(kind for kind in inputs if kind)})"
            counts[name] = counts.get(name, 0) + 1
    return counts


def _nodes(graph: GraphProto, outer: Mapping[str, str]) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yield (domain, operator, types of inputs, types of outputs) of every node; '' for a missing optional input."""
    types = dict(outer)
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = _TYPES[value.type.tensor_type.elem_type]
    types |= {array.name: _TYPES[array.data_type] for array in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g, types)
        yield (
            node.domain,
            node.op_type,
            [types[name] if name else "" for name in node.input],
            [types[name] for name in node.output if name],
        )
