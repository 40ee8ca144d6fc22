"""A layer over `onnx.helper`: values with operators, deduplicated constants, nested graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, ValueInfoProto, helper

FLOAT, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
INT, LONG = np.dtype(np.int32), np.dtype(np.int64)
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

    def same(self, other: Any) -> Value:
        """Return where both are equal."""
        return self.graph.op("Equal", self, self._like(other))

    def most(self, other: Any) -> Value:
        """Return the larger of both."""
        return self.graph.op("Max", self, self._like(other))

    def least(self, other: Any) -> Value:
        """Return the smaller of both."""
        return self.graph.op("Min", self, self._like(other))

    def log(self) -> Value:
        """Return the natural logarithm."""
        return self.graph.op("Log", self)

    def to(self, dtype: np.dtype[Any]) -> Value:
        """Return the tensor in another dtype."""
        if dtype == self.dtype:
            return self
        return self.graph.op("Cast", self, to=helper.np_dtype_to_tensor_dtype(dtype), dtype=dtype)

    def at(self, places: Value, axis: int = 0) -> Value:
        """Return the rows (or, on axis 1, columns) at `places`."""
        return self.graph.op("Gather", self, places, axis=axis)

    def cut(self, begin: Value | int, end: Value | int, axis: int = 0) -> Value:
        """Return a slice of one axis; begin and end are numbers or int64[1]."""
        graph = self.graph
        return graph.op("Slice", self, graph.long1(begin), graph.long1(end), graph.constant(np.array([axis])))

    def column(self, axis: int = 1) -> Value:
        """Return the tensor with one more axis, of length 1."""
        return self.graph.op("Unsqueeze", self, self.graph.constant(np.array([axis])))

    def flat(self) -> Value:
        """Return the tensor as a vector."""
        return self.shaped([-1])

    def shaped(self, shape: Sequence[int] | Value) -> Value:
        """Return the tensor in another shape."""
        return self.graph.op(
            "Reshape", self, shape if isinstance(shape, Value) else self.graph.constant(np.array(shape, LONG))
        )

    def size(self) -> Value:
        """Return int64[1]: the length of the first axis."""
        return self.graph.op("Shape", self, start=0, end=1)

    def reduced(self, kind: str, axis: int, keep: bool = False) -> Value:
        """Return the Sum, Max or Min over one axis."""
        return self.graph.op(f"Reduce{kind}", self, self.graph.constant(np.array([axis])), keepdims=int(keep))

    def scattered(self, places: Value, values: Value, reduction: str = "none") -> Value:
        """Return this vector with `values` at `places`, which for 'none' are distinct or have equal values."""
        return self.graph.op("ScatterElements", self, places, values, axis=0, reduction=reduction)

    def _like(self, other: Any) -> Value:
        return other if isinstance(other, Value) else self.graph.constant(np.asarray(other, self.dtype))


@dataclass(slots=True)
class _Shared:
    """The data that a graph shares with its inner graphs."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    constants: dict[tuple[Any, ...], Value] = field(default_factory=dict)
    count: int = 0


class Graph:
    """A graph under construction. Constants and tables belong to the outermost graph; names are unique in all."""

    def __init__(self, around: Graph | None = None) -> None:
        self.nodes: list[NodeProto] = []
        self._shared: _Shared = _Shared() if around is None else around._shared

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The initializers by name."""
        return self._shared.arrays

    def value(self, name: str, dtype: np.dtype[Any]) -> Value:
        """Return a value that is made elsewhere: an input, or an output of the encoder."""
        return Value(self, name, dtype)

    def here(self, value: Value) -> Value:
        """Return a value of an outer graph, for nodes of this one."""
        return Value(self, value.name, value.dtype)

    def table(self, name: str, array: np.ndarray, dtype: np.dtype[Any] | None = None) -> Value:
        """Return an array of the bundle under its own name. dtype: the dtype that its nodes read."""
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
        return self.here(value)

    def long1(self, number: Value | int) -> Value:
        """Return int64[1]."""
        return number if isinstance(number, Value) else self.constant(np.array([number]))

    def op(self, kind: str, *inputs: Value | None, dtype: np.dtype[Any] | None = None, name: str = "", domain: str = "",
           **attributes: Any) -> Value:  # fmt: skip
        """Add a node with one output."""
        return self.ops(kind, inputs, [dtype or self._dtype(kind, inputs)], name=name, domain=domain, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[Value | None], dtypes: Sequence[np.dtype[Any]], name: str = "",
            domain: str = "", **attributes: Any) -> list[Value]:  # fmt: skip
        """Add a node with an output for each of `dtypes`."""
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

    def joined(self, *values: Value, axis: int = 0) -> Value:
        """Add a Concat."""
        return self.op("Concat", *values, axis=axis)

    def where(self, truth: Value, if_true: Any, if_false: Any) -> Value:
        """Add a Where; one of both may be a number."""
        if not isinstance(if_true, Value):
            if_true = if_false._like(if_true)
        return self.op("Where", truth, if_true, if_true._like(if_false), dtype=if_true.dtype)

    def full(self, length: Value, number: float, dtype: np.dtype[Any]) -> Value:
        """Return a tensor filled with one number; length: its shape, int64[axes]."""
        tensor = helper.make_tensor("value", helper.np_dtype_to_tensor_dtype(dtype), [1], [number])
        return self.op("ConstantOfShape", length, value=tensor, dtype=dtype)

    def counted(self, length: Value, dtype: np.dtype[Any] = LONG) -> Value:
        """Return 0, 1, .. length - 1; length: int64[1]."""
        end = length.to(dtype).shaped([])
        return self.op("Range", self.constant(np.array(0, dtype)), end, self.constant(np.array(1, dtype)))

    def places(self, truth: Value) -> Value:
        """Return int64[..]: where a vector is true."""
        return self.op("NonZero", truth).flat()

    def top(self, values: Value, count: Value) -> tuple[Value, Value]:
        """Return the `count` (int64[1]) largest of a vector, descending, ties by place, and their places."""
        largest, places = self.ops("TopK", [values, count], [values.dtype, LONG], axis=-1, largest=1, sorted=1)
        return largest, places

    def choice(
        self, truth: Value, make_then: Callable[[Graph], Sequence[Value]], make_else: Callable[[Graph], Sequence[Value]]
    ) -> list[Value]:
        """Add an If: the outputs of one of two graphs of vectors; truth: bool[1]."""
        branches, dtypes = [], []
        for label, make in (("then", make_then), ("else", make_else)):
            inside = Graph(self)
            outputs = [inside.op("Identity", inside.here(value)) for value in make(inside)]
            dtypes = [value.dtype for value in outputs]
            branches.append(inside.proto(f"{label}_branch", [], [vector(value) for value in outputs]))
        return self.ops("If", [truth], dtypes, then_branch=branches[0], else_branch=branches[1])

    def for_each(self, count: Value, make: Callable[[Graph, Value], Sequence[Value]]) -> list[Value]:
        """Add a Loop: the outputs of a graph of vectors for 0 .. count - 1, a row each. make gets int64[1]."""
        inside = Graph(self)
        self._shared.count += 1
        turn, condition = f"turn_{self._shared.count}", f"going_{self._shared.count}"
        keep = inside.op("Identity", inside.value(condition, BOOL))
        outputs = [
            inside.op("Identity", inside.here(value)) for value in make(inside, inside.value(turn, LONG).shaped([1]))
        ]
        inputs = [
            helper.make_tensor_value_info(turn, helper.np_dtype_to_tensor_dtype(LONG), []),
            helper.make_tensor_value_info(condition, helper.np_dtype_to_tensor_dtype(BOOL), []),
        ]
        keep_info = helper.make_tensor_value_info(keep.name, helper.np_dtype_to_tensor_dtype(BOOL), [])
        body = inside.proto("session", inputs, [keep_info, *(vector(value) for value in outputs)])
        return self.ops("Loop", [count.shaped([]), None], [value.dtype for value in outputs], body=body)

    def proto(self, name: str, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        """Return the graph without its initializers."""
        return helper.make_graph(self.nodes, name, inputs, outputs)

    def _dtype(self, kind: str, inputs: Sequence[Value | None]) -> np.dtype[Any]:
        if kind in _BOOL_OPS:
            return BOOL
        if kind in _LONG_OPS:
            return LONG
        assert inputs[0] is not None
        return inputs[0].dtype


def vector(value: Value) -> ValueInfoProto:
    """Return the description of a vector of any length."""
    return helper.make_tensor_value_info(value.name, helper.np_dtype_to_tensor_dtype(value.dtype), [None])
