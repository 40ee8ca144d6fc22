"""What a test does to every launch in Triton's interpreter: programs in a random order, poisoned margins.

Each program runs once, in an order drawn for every launch. Every tensor is passed to the kernel as a copy with
margins on both sides; margins, and the gaps between a view's strides, are NaN in floats and a large number in
integers. Whatever a kernel loads or stores must be in an argument's own elements; afterwards the poison must be as it
was, and the copies' elements go back to the tensors. A launch outside of a device guard is an error too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
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
