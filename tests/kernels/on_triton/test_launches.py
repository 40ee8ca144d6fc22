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

from tests.support.kernels.launches import hostile_launches

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
