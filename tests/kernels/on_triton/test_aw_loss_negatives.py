"""`negatives=True` of the Triton backend against float64, in every dtype, near certainty and at the ends of fp16."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.aw_loss import aw_loss
from tests.support.kernels.aw_loss import TRITON_DEVICE as DEVICE
from tests.support.kernels.aw_loss import TRITON_DTYPES as DTYPES
from tests.support.kernels.aw_loss import TRITON_SHAPES as SHAPES
from tests.support.kernels.aw_loss import Inputs, assert_as_close_as_eager, worst
from tests.support.kernels.aw_loss import loss_and_gradients as all_losses_and_gradients
from tests.support.kernels.aw_loss import triton_problem as problem

loss_and_gradients = partial(all_losses_and_gradients, negatives=True)
QUICK = [(1, 1, 1), (5, 2, 100), (17, 150, 7), (3, 40, 300)]


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    "shape", [*QUICK, *(pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES if shape not in QUICK)], ids=str
)
@pytest.mark.parametrize(("dtype", "compute"), DTYPES, ids=str)
def test_as_close_to_float64_as_eager_is(
    dtype: torch.dtype, compute: torch.dtype | None, shape: tuple[int, int, int]
) -> None:
    assert_as_close_as_eager(dtype, compute, problem(*shape), gamma=2.0, negatives=True)


@pytest.mark.parametrize(
    ("compute", "gamma"),
    [
        (None, 6.0),
        (torch.bfloat16, 0.0),
        *(pytest.param(None, gamma, marks=pytest.mark.slow) for gamma in (0.0, 0.5, 1.0)),
        *(pytest.param(torch.bfloat16, gamma, marks=pytest.mark.slow) for gamma in (0.5, 1.0, 6.0)),
        *(pytest.param(torch.float16, gamma, marks=pytest.mark.slow) for gamma in (0.0, 0.5, 1.0, 6.0)),
    ],
    ids=str,
)
def test_every_gamma(compute: torch.dtype | None, gamma: float) -> None:
    assert_as_close_as_eager(torch.float32, compute, problem(33, 90, 100, seed=3), gamma, negatives=True)


def of_angles(angles: list[float]) -> Inputs:
    """One row and items at these angles from it: the first is the target."""
    e = torch.tensor([[math.cos(a), math.sin(a)] for a in angles], dtype=torch.float64)
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    return q.to(DEVICE), e.to(DEVICE), torch.zeros(1, dtype=torch.int64, device=DEVICE), torch.ones(1, device=DEVICE)


@pytest.mark.parametrize("gamma", [0.0, 2.0, pytest.param(6.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("miss", [0.4, 1e-2, 1e-4, 2e-6])
def test_a_wrong_item_near_certainty_keeps_its_digits(miss: float, gamma: float) -> None:
    """An item other than the target with 1 - p down to 2e-6: log(1 - p) and 1 / (1 - p) to a relative 1e-4.

    The rest is spread over the target and an item, so that neither loss nor gradients follow from one of them.
    """
    scale = 16.0
    angle = math.acos(1 + math.log(miss / 2) / scale)
    inputs = of_angles([angle, 0.02, -angle, 2.5])
    exact = loss_and_gradients("reference", torch.float64, None, inputs, gamma, scale)
    p = (scale * functional.cosine_similarity(inputs[0], inputs[1])).softmax(dim=0)
    assert 0.5 * miss < 1 - p[1].item() < 2 * miss
    for compute, bound in ((None, 1e-4), (torch.float16, 3e-2)):
        got = loss_and_gradients("triton", torch.float32, compute, inputs, gamma, scale)
        for truth, ours in zip(exact, got, strict=True):
            torch.testing.assert_close(ours, truth, rtol=bound, atol=bound * truth.abs().max().item())


@pytest.mark.parametrize("gamma", [0.0, 2.0, pytest.param(64.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize("angles", [[2.0, 0.01, 2.5], [math.pi, 0.0]], ids=["three items", "two items"])
@pytest.mark.parametrize("compute", [None, torch.bfloat16, torch.float16], ids=str)
def test_a_certain_wrong_item(compute: torch.dtype | None, angles: list[float], gamma: float) -> None:
    """1 - p down to exp(-80), the smallest there is."""
    inputs = of_angles(angles)
    exact = loss_and_gradients("reference", torch.float64, None, inputs, gamma, 40.0)
    got = loss_and_gradients("triton", torch.float32, compute, inputs, gamma, 40.0)
    eps = torch.finfo(compute or torch.float32).eps
    for truth, ours in zip(exact, got, strict=True):
        assert torch.isfinite(ours).all()
        assert worst(ours, truth) <= 40 * 4 * eps * truth.abs().max().item() + 1e-20


def test_two_largest_items_that_are_equal() -> None:
    """p = 1/2 each, to rounding: one of them is the row's own, and the bits of both gradients' sizes agree."""
    inputs = of_angles([1.5, 0.3, -0.3, 1.7])
    exact = loss_and_gradients("reference", torch.float64, None, inputs, 6.0)
    got = loss_and_gradients("triton", torch.float32, None, inputs, 6.0)
    for truth, ours in zip(exact, got, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-5, atol=1e-5 * truth.abs().max().item())


def test_zero_vectors_single_items_and_targets_outside() -> None:
    q = torch.zeros(2, 4, requires_grad=True, device=DEVICE)
    e = torch.zeros(5, 4, requires_grad=True, device=DEVICE)
    targets = torch.tensor([0, 4], device=DEVICE)
    loss = aw_loss(q, e, targets, scale=16, gamma=0, negatives=True, backend="triton")
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5) + 4 * -math.log(0.8), rel=1e-6)
    assert q.grad is not None
    assert e.grad is not None
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(e.grad).all()
    outside = torch.tensor([1, 5, -1], device=DEVICE)
    losses = aw_loss(
        torch.ones(3, 4, device=DEVICE), e.detach() + 1, outside, scale=16, gamma=2, negatives=True, reduction="none",
        backend="triton",
    )  # fmt: skip
    assert torch.isnan(losses).tolist() == [False, True, True]


def test_reductions_weights_and_a_side_without_gradient() -> None:
    queries, catalog, targets, weights = (x.float() if x.is_floating_point() else x for x in problem(11, 30, 6))

    def run(reduction: str, q: Tensor, e: Tensor) -> Tensor:
        return aw_loss(
            q, e, targets, scale=16, gamma=2, weights=weights, reduction=reduction, negatives=True, backend="triton"
        )

    q, e = queries.clone().requires_grad_(), catalog.clone().requires_grad_()
    rows, total, mean = (run(reduction, q, e) for reduction in ("none", "sum", "mean"))
    assert (weights == 0).any()
    assert rows[weights == 0].abs().max() == 0
    torch.testing.assert_close(total, rows.sum())
    torch.testing.assert_close(mean, rows.sum() / (weights != 0).sum())
    gradients = torch.autograd.grad(mean, (q, e))
    assert gradients[0][weights == 0].abs().max() == 0
    for k, (a, b) in enumerate(((q, catalog), (queries, e))):
        alone = run("mean", a, b)
        assert torch.equal(alone, mean)
        assert torch.equal(torch.autograd.grad(alone, (q, e)[k])[0], gradients[k])


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits_on_every_run(compute: torch.dtype) -> None:
    inputs = problem(20, 70, 24)
    first, again = (loss_and_gradients("triton", torch.float32, compute, inputs, 2.0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_small_gradients_survive_fp16() -> None:
    """Rows of every certainty, and a mean over many of them."""
    queries, catalog, targets, _ = problem(12, 70, 16)
    gradients: list[list[Tensor]] = []
    for factor in (1.0, 1e-6, 1e-20):
        q, e = queries.float().requires_grad_(), catalog.float().requires_grad_()
        loss = aw_loss(
            q, e, targets, scale=40, gamma=2, compute_dtype=torch.float16, reduction="sum", negatives=True,
            backend="triton",
        )  # fmt: skip
        gradients.append([g / factor for g in torch.autograd.grad(loss * factor, (q, e))])
    for others in gradients[1:]:
        for got, at_one in zip(others, gradients[0], strict=True):
            torch.testing.assert_close(got, at_one, rtol=1e-2, atol=1e-3 * at_one.abs().max().item())
