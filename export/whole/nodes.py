"""A layer over `onnx.helper`: values with operators, deduplicated constants, nested graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, ValueInfoProto, helper

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)
BOOL, TEXT = np.dtype(bool), np.dtype(object)
_BOOL_OPS = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or", "Not"})
_LONG_OPS = frozenset({"Shape", "NonZero", "ArgMax", "ArgMin", "Size"})


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of a graph: its name and numpy dtype (object for text).

    Operators make nodes; a number operand becomes a constant of the tensor's dtype.
    """

    graph: Graph
    name: str
    dtype: np.dtype[Any]

    def __add__(self, other: Any) -> Value:
        return self.graph.op("Add", self, self._like(other))

    def __sub__(self, other: Any) -> Value:
        return self.graph.op("Sub", self, self._like(other))

    def __rsub__(self, other: Any) -> Value:
        return self.graph.op("Sub", self._like(other), self)

    def __mul__(self, other: Any) -> Value:
        return self.graph.op("Mul", self, self._like(other))

    def __truediv__(self, other: Any) -> Value:
        return self.graph.op("Div", self, self._like(other))

    def __matmul__(self, other: Value) -> Value:
        return self.graph.op("MatMul", self, other)

    def __and__(self, other: Value) -> Value:
        return self.graph.op("And", self, other)

    def __or__(self, other: Value) -> Value:
        return self.graph.op("Or", self, other)

    def __invert__(self) -> Value:
        return self.graph.op("Not", self)

    def __lt__(self, other: Any) -> Value:
        return self.graph.op("Less", self, self._like(other))

    def __le__(self, other: Any) -> Value:
        return self.graph.op("LessOrEqual", self, self._like(other))

    def __gt__(self, other: Any) -> Value:
        return self.graph.op("Greater", self, self._like(other))

    def __ge__(self, other: Any) -> Value:
        return self.graph.op("GreaterOrEqual", self, self._like(other))

    def equal(self, other: Any) -> Value:
        """Return bool[..]: where both are equal."""
        return self.graph.op("Equal", self, self._like(other))

    def maximum(self, other: Any) -> Value:
        """Return the larger of both, element by element."""
        return self.graph.op("Max", self, self._like(other))

    def minimum(self, other: Any) -> Value:
        """Return the smaller of both, element by element."""
        return self.graph.op("Min", self, self._like(other))

    def log(self) -> Value:
        """Return the natural logarithm."""
        return self.graph.op("Log", self)

    def cast(self, dtype: np.dtype[Any]) -> Value:
        """Return the tensor in another dtype."""
        if dtype == self.dtype:
            return self
        return self.graph.op("Cast", self, to=helper.np_dtype_to_tensor_dtype(dtype), dtype=dtype)

    def gather(self, indices: Value, axis: int = 0) -> Value:
        """Return the rows (or, on axis 1, columns) at `indices`."""
        return self.graph.op("Gather", self, indices, axis=axis)

    def slice(self, begin: Value | int, end: Value | int, axis: int = 0) -> Value:
        """Return elements begin .. end - 1 of one axis; begin and end are numbers or int64[1]."""
        graph = self.graph
        return graph.op(
            "Slice", self, graph.int64_vector(begin), graph.int64_vector(end), graph.constant(np.array([axis]))
        )

    def unsqueeze(self, axis: int = 1) -> Value:
        """Return the tensor with a new axis of length 1."""
        return self.graph.op("Unsqueeze", self, self.graph.constant(np.array([axis])))

    def flatten(self) -> Value:
        """Return the tensor as a vector."""
        return self.reshape([-1])

    def reshape(self, shape: Sequence[int] | Value) -> Value:
        """Return the tensor in another shape."""
        return self.graph.op(
            "Reshape", self, shape if isinstance(shape, Value) else self.graph.constant(np.array(shape, INT64))
        )

    def length(self) -> Value:
        """Return int64[1]: the length of the first axis."""
        return self.graph.op("Shape", self, start=0, end=1)

    def reduce(self, kind: str, axis: int, keep: bool = False) -> Value:
        """Return the sum, maximum or minimum over one axis. kind: 'Sum', 'Max' or 'Min'. keep: keep the axis."""
        return self.graph.op(f"Reduce{kind}", self, self.graph.constant(np.array([axis])), keepdims=int(keep))

    def scatter(self, indices: Value, values: Value, reduction: str = "none") -> Value:
        """Return this vector with `values` at `indices`.

        reduction: 'none', 'add', 'min' or 'max'. With 'none', indices that occur twice must have equal values.
        """
        return self.graph.op("ScatterElements", self, indices, values, axis=0, reduction=reduction)

    def _like(self, other: Any) -> Value:
        return other if isinstance(other, Value) else self.graph.constant(np.asarray(other, self.dtype))


@dataclass(slots=True)
class _Shared:
    """The data that a graph shares with its inner graphs."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    constants: dict[tuple[Any, ...], Value] = field(default_factory=dict)
    count: int = 0


class Graph:
    """A graph under construction.

    Constants and tables belong to the outermost graph. A name is unique among a graph and its inner graphs.
    """

    def __init__(self, parent: Graph | None = None) -> None:
        self.nodes: list[NodeProto] = []
        self._shared: _Shared = _Shared() if parent is None else parent._shared

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The initializers by name."""
        return self._shared.arrays

    def value(self, name: str, dtype: np.dtype[Any]) -> Value:
        """Return a value that no node of this layer makes: an input, or an output of the encoder."""
        return Value(self, name, dtype)

    def outer(self, value: Value) -> Value:
        """Return a value of an outer graph, to be read by nodes of this one."""
        return Value(self, value.name, value.dtype)

    def table(self, name: str, array: np.ndarray, dtype: np.dtype[Any] | None = None) -> Value:
        """Return an array of the bundle, stored under `name`. dtype: of the value, if not that of the array."""
        self.arrays.setdefault(name, array)
        return Value(self, name, dtype or array.dtype)

    def constant(self, array: np.ndarray | np.generic) -> Value:
        """Return a small array; equal arrays are stored once."""
        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes() if array.dtype != TEXT else tuple(array.ravel()))
        value = self._shared.constants.get(key)
        if value is None:
            name = f"c{len(self._shared.constants)}"
            self.arrays[name] = array
            value = self._shared.constants[key] = Value(self, name, array.dtype)
        return self.outer(value)

    def int64_vector(self, number: Value | int) -> Value:
        """Return a number as int64[1]; a Value as it is."""
        return number if isinstance(number, Value) else self.constant(np.array([number]))

    def op(self, kind: str, *inputs: Value | None, dtype: np.dtype[Any] | None = None, name: str = "", domain: str = "",
           **attributes: Any) -> Value:  # fmt: skip
        """Add a node with one output, and return it. dtype: of the output, by default as the operator implies."""
        return self.ops(kind, inputs, [dtype or self._dtype(kind, inputs)], name=name, domain=domain, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[Value | None], dtypes: Sequence[np.dtype[Any]], name: str = "",
            domain: str = "", **attributes: Any) -> list[Value]:  # fmt: skip
        """Add a node with an output for each of `dtypes`, and return them. name: of the first output."""
        names = []
        for _ in dtypes:
            self._shared.count += 1
            names.append(f"{kind.lower()}_{self._shared.count}")
        if name:
            names[0] = name
        input_names = ["" if value is None else value.name for value in inputs]
        self.nodes.append(
            helper.make_node(kind, input_names, names, name=names[0], domain=domain or None, **attributes)
        )
        return [Value(self, output, dtype) for output, dtype in zip(names, dtypes, strict=True)]

    def concat(self, *values: Value, axis: int = 0) -> Value:
        """Return the values concatenated along an axis."""
        return self.op("Concat", *values, axis=axis)

    def where(self, condition: Value, if_true: Any, if_false: Any) -> Value:
        """Return `if_true` where `condition` is true, else `if_false`. One of both may be a number."""
        if not isinstance(if_true, Value):
            if_true = if_false._like(if_true)
        return self.op("Where", condition, if_true, if_true._like(if_false), dtype=if_true.dtype)

    def full(self, length: Value, number: float, dtype: np.dtype[Any]) -> Value:
        """Return a tensor filled with one number; length: its shape, int64[axes]."""
        tensor = helper.make_tensor("value", helper.np_dtype_to_tensor_dtype(dtype), [1], [number])
        return self.op("ConstantOfShape", length, value=tensor, dtype=dtype)

    def arange(self, length: Value, dtype: np.dtype[Any] = INT64) -> Value:
        """Return 0, 1, .. length - 1; length: int64[1]."""
        end = length.cast(dtype).reshape([])
        return self.op("Range", self.constant(np.array(0, dtype)), end, self.constant(np.array(1, dtype)))

    def nonzero(self, mask: Value) -> Value:
        """Return int64[..]: the indices at which a vector is true."""
        return self.op("NonZero", mask).flatten()

    def topk(self, values: Value, count: Value) -> tuple[Value, Value]:
        """Return the `count` (int64[1]) largest of a vector, descending, and their indices; ties by index."""
        largest, indices = self.ops("TopK", [values, count], [values.dtype, INT64], axis=-1, largest=1, sorted=1)
        return largest, indices

    def if_else(
        self,
        condition: Value,
        make_then: Callable[[Graph], Sequence[Value]],
        make_else: Callable[[Graph], Sequence[Value]],
    ) -> list[Value]:
        """Add an If, and return the outputs of the branch that runs: vectors. condition: bool[1]."""
        branches, dtypes = [], []
        for label, make in (("then", make_then), ("else", make_else)):
            inside = Graph(self)
            outputs = [inside.op("Identity", inside.outer(value)) for value in make(inside)]
            dtypes = [value.dtype for value in outputs]
            branches.append(inside.proto(f"{label}_branch", [], [vector(value) for value in outputs]))
        return self.ops("If", [condition], dtypes, then_branch=branches[0], else_branch=branches[1])

    def loop(self, count: Value, make: Callable[[Graph, Value], Sequence[Value]]) -> list[Value]:
        """Add a Loop, and return its outputs: a row for each step 0 .. count - 1.

        make: gets the inner graph and the step int64[1], and returns a vector for each output.
        """
        inside = Graph(self)
        self._shared.count += 1
        step, condition = f"turn_{self._shared.count}", f"going_{self._shared.count}"
        keep = inside.op("Identity", inside.value(condition, BOOL))
        outputs = [
            inside.op("Identity", inside.outer(value)) for value in make(inside, inside.value(step, INT64).reshape([1]))
        ]
        inputs = [
            helper.make_tensor_value_info(step, helper.np_dtype_to_tensor_dtype(INT64), []),
            helper.make_tensor_value_info(condition, helper.np_dtype_to_tensor_dtype(BOOL), []),
        ]
        keep_info = helper.make_tensor_value_info(keep.name, helper.np_dtype_to_tensor_dtype(BOOL), [])
        body = inside.proto("session", inputs, [keep_info, *(vector(value) for value in outputs)])
        return self.ops("Loop", [count.reshape([]), None], [value.dtype for value in outputs], body=body)

    def proto(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """Return the graph without its initializers."""
        return helper.make_graph(self.nodes, name, inputs, outputs)

    def _dtype(self, kind: str, inputs: Sequence[Value | None]) -> np.dtype[Any]:
        if kind in _BOOL_OPS:
            return BOOL
        if kind in _LONG_OPS:
            return INT64
        assert inputs[0] is not None
        return inputs[0].dtype


def vector(value: Value) -> ValueInfoProto:
    """Return the description of a vector of any length."""
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(value.dtype), [None])
