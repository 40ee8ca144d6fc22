"""Every kernel of the project in a random order of its programs, between poisoned margins: the same bits as ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import triton
import triton.language as tl
from torch import Tensor

from mtaw_fast.kernels.adam import AdamSettings
from mtaw_fast.kernels.aw_loss import aw_loss, catalog_sums, loss_of_sums
from mtaw_fast.kernels.compile_check import OPS, cases_of
from mtaw_fast.kernels.triton_device import interpreting
from tests.support.kernels.adam import by_op, rounds
from tests.support.kernels.aw_loss import triton_problem as problem
from tests.support.kernels.prefix_interest import draw, forward_and_gradients

if not interpreting():
    pytest.skip("a GPU draws the order of programs itself and has no margins", allow_module_level=True)

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

MARGIN = 4096  # bytes on each side, a multiple of torch's alignment
FLOATS, INTEGERS = 0xFF, 0x5A  # bytes: NaN in every dtype, and 1.5e9 in an int32


class Memory:
    """Copies of the storages behind a launch's tensors, and which of their bytes are elements."""

    def __init__(self) -> None:
        self._originals: dict[int, Tensor] = {}  # bytes of every storage, by its address
        self._copies: dict[int, Tensor] = {}
        self._elements: dict[int, Tensor] = {}
        self._poison: dict[int, int] = {}

    def take(self, tensor: Tensor) -> Tensor:
        """The tensor's twin between margins; its elements are copied there."""
        storage, size = tensor.untyped_storage(), tensor.element_size()
        key = storage.data_ptr()
        if key not in self._copies:
            self._originals[key] = torch.empty(0, dtype=torch.uint8).set_(storage)
            self._poison[key] = FLOATS if tensor.is_floating_point() else INTEGERS
            length = len(self._originals[key]) + 2 * MARGIN
            self._copies[key] = torch.full((length,), self._poison[key], dtype=torch.uint8)
            self._elements[key] = torch.zeros(length, dtype=torch.bool)
        places = torch.full(tensor.shape, int(tensor.storage_offset()) * size)
        for axis, (n, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            shape = [n if k == axis else 1 for k in range(tensor.ndim)]
            places = places + (torch.arange(n) * stride * size).reshape(shape)
        elements = (places.reshape(-1, 1) + torch.arange(size)).reshape(-1)
        self._elements[key][MARGIN + elements] = True
        self._copies[key][MARGIN + elements] = self._originals[key][elements]
        offset = MARGIN // size + tensor.storage_offset()
        twin = torch.empty(0, dtype=tensor.dtype)
        return twin.set_(self._copies[key].untyped_storage(), offset, tensor.shape, tensor.stride())

    def check(self, addresses: np.ndarray, size: int) -> None:
        """AssertionError unless the `size` bytes at every address are elements of one tensor."""
        ours = np.zeros(addresses.shape, dtype=bool)
        for key, copy in self._copies.items():
            places = addresses - copy.data_ptr()
            inside = (places >= 0) & (places <= len(copy) - size)
            elements = self._elements[key].numpy()
            ours[inside] = elements[places[inside]] & elements[places[inside] + size - 1]
        assert ours.all(), "a kernel leaves the elements of its tensors"

    def give_back(self) -> None:
        """Check the poison, and copy the elements back."""
        for key, copy in self._copies.items():
            elements, original = self._elements[key], self._originals[key]
            assert (copy[~elements] == self._poison[key]).all(), "a kernel wrote outside its tensor"
            inside = elements[MARGIN : MARGIN + len(original)]
            original[inside] = copy[MARGIN : MARGIN + len(original)][inside]


class _WatchedAccess:
    """Triton's loads and stores of the interpreter, each address checked first."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.memory: Memory | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def load(self, pointers: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: Any) -> np.ndarray:
        if self.memory is not None:
            self.memory.check(pointers[mask.astype(bool)].astype(np.int64), np.dtype(dtype).itemsize)
        return self._real.load(pointers, mask, other, dtype)

    def store(self, pointers: np.ndarray, values: np.ndarray, mask: np.ndarray) -> None:
        if self.memory is not None:
            self.memory.check(pointers[mask.astype(bool)].astype(np.int64), values.dtype.itemsize)
        self._real.store(pointers, values, mask)


@contextmanager
def hostile_launches(monkeypatch: pytest.MonkeyPatch, seed: int) -> Iterator[set[str]]:
    """Every launch as this module says; gives the names of the kernels that were launched."""
    launched: set[str] = set()
    generator = np.random.default_rng(seed)
    builder, access = interpreter.interpreter_builder, _WatchedAccess(interpreter._interpreter)
    launch, set_dim, set_idx = interpreter.GridExecutor.__call__, builder.set_grid_dim, builder.set_grid_idx
    guard, guards = torch.cuda.device_of, [0]

    class WatchedGuard(guard):  # type: ignore[valid-type]
        def __enter__(self) -> None:
            guards[0] += 1
            super().__enter__()

        def __exit__(self, *reason: object) -> None:
            guards[0] -= 1
            super().__exit__(*reason)

    def drawn_dim(*dim: int) -> None:
        set_dim(*dim)
        builder.order = generator.permutation(int(np.prod(dim)))

    def drawn_idx(*indices: int) -> None:
        number = builder.order[np.ravel_multi_index(indices, builder.grid_dim)]
        set_idx(*(int(k) for k in np.unravel_index(number, builder.grid_dim)))

    def hostile(self: Any, *arguments: Any, **named: Any) -> None:
        assert guards[0] > 0, f"{self.fn.__name__} is launched outside of a device guard"
        launched.add(self.fn.__name__)
        memory = access.memory = Memory()

        def twin(value: Any) -> Any:
            if isinstance(value, TensorDescriptor):
                return TensorDescriptor(memory.take(value.base), value.shape, value.strides, value.block_shape)
            return memory.take(value) if isinstance(value, Tensor) else value

        try:
            launch(self, *map(twin, arguments), **{name: twin(value) for name, value in named.items()})
        finally:
            access.memory = None
        memory.give_back()

    with monkeypatch.context() as patch:
        patch.setattr(interpreter, "_interpreter", access)
        patch.setattr(builder, "set_grid_dim", drawn_dim)
        patch.setattr(builder, "set_grid_idx", drawn_idx)
        patch.setattr(interpreter.GridExecutor, "__call__", hostile)
        patch.setattr(torch.cuda, "device_of", WatchedGuard)
        yield launched


CPU = torch.device("cpu")
Run = Callable[[], list[Tensor]]


def loss(compute: torch.dtype | None, shape: tuple[int, int, int], negatives: bool = False) -> list[Tensor]:
    """Row losses and both gradients, of rows and items with strides and offsets in their storages."""
    queries, catalog, targets, _ = problem(*shape, seed=7)
    d = shape[2]
    leaves = []
    for matrix in (queries, catalog):
        wide = torch.zeros(len(matrix) + 1, d + 3)
        view = wide[1:, 2 : 2 + d]
        view.copy_(matrix)
        leaves.append(view.detach().requires_grad_())
    losses = aw_loss(
        leaves[0], leaves[1], targets, scale=16, gamma=2, reduction="none", negatives=negatives, compute_dtype=compute,
        backend="triton",
    )  # fmt: skip
    return [losses.detach(), *torch.autograd.grad(losses.sum(), leaves)]


def slices() -> list[Tensor]:
    queries, catalog, targets, _ = problem(5, 40, 12)
    q, e = queries.float().requires_grad_(), catalog.float().requires_grad_()
    parts = [
        catalog_sums(q, e[begin:end], targets, scale=16, first_item=begin, catalog_size=40)
        for begin, end in ((0, 17), (17, 40))
    ]
    losses = loss_of_sums(parts[0][0] + parts[1][0], parts[0][1] + parts[1][1], scale=16, gamma=0)
    return [losses.detach(), *torch.autograd.grad(losses.sum(), (q, e))]


def encoder(compute: torch.dtype) -> list[Tensor]:
    return forward_and_gradients("triton", draw(24, 20), [18, 1, 5], torch.float32, compute, CPU, dropout=(0.2, 0.3))


def adam() -> list[Tensor]:
    weights, norms, _ = by_op(
        rounds([1025, 7], torch.float32, CPU), [1e-3, 2e-3], AdamSettings(clip_norm=1.0), "triton"
    )
    return [*weights, torch.tensor(norms)]


RUNS: dict[str, Run] = {
    "loss float32": lambda: loss(None, (20, 40, 20)),
    "loss bf16": lambda: loss(torch.bfloat16, (70, 70, 20)),
    "loss fp16": lambda: loss(torch.float16, (9, 70, 30)),
    "loss in chunks": lambda: loss(torch.bfloat16, (5, 70, 140)),
    "loss, all items": lambda: loss(torch.bfloat16, (20, 70, 20), negatives=True),
    "loss, all items, in chunks": lambda: loss(torch.float16, (5, 40, 140), negatives=True),
    "loss in slices": slices,
    "encoder float32": lambda: encoder(torch.float32),
    "encoder bf16": lambda: encoder(torch.bfloat16),
    "adam": adam,
}
LONGER = {"encoder bf16", "loss, all items, in chunks", "loss fp16"}  # other paths of kernels that the rest launches
LAUNCHED: dict[str, set[str]] = {}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONGER else name for name in RUNS]
)
def test_any_order_and_hostile_neighbors_give_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = RUNS[name]()
    with hostile_launches(monkeypatch, seed=len(name)) as launched:
        got = RUNS[name]()
    LAUNCHED[name] = launched
    assert launched
    for a, b in zip(expected, got, strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)


def test_no_kernel_was_left_out() -> None:
    if not set(RUNS) - LONGER <= set(LAUNCHED):
        pytest.skip("not all of the file was run")
    kernels = {case.kernel.__name__ for op in OPS for case in cases_of(op, "cuda")}
    assert set().union(*LAUNCHED.values()) == kernels


@triton.jit
def careless(out_p, n, SHIFT: tl.constexpr, READS: tl.constexpr):
    place = tl.program_id(0) * 4 + tl.arange(0, 4) + SHIFT
    if READS:
        tl.store(out_p + place - SHIFT, tl.load(out_p + place), mask=place - SHIFT < n)
    else:
        tl.store(out_p + place, tl.zeros((4,), tl.float32), mask=place < n + SHIFT)


@pytest.mark.parametrize(("shift", "reads"), [(1, False), (-1, False), (3, True), (-5000, True)])
def test_a_kernel_that_leaves_its_tensor_is_seen(shift: int, reads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    out = torch.ones(8)
    with hostile_launches(monkeypatch, seed=0), torch.cuda.device_of(out):
        careless[(2,)](out, 8, SHIFT=0, READS=reads)
        with pytest.raises(Exception, match="leaves the elements"):
            careless[(2,)](out, 8, SHIFT=shift, READS=reads)


def test_a_launch_without_a_device_guard_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile_launches(monkeypatch, seed=0), pytest.raises(AssertionError, match="outside of a device guard"):
        careless[(2,)](torch.ones(8), 8, SHIFT=0, READS=False)
