"""The products and roundings that kernels share, compiled and interpreted.

Triton's interpreter multiplies bf16 tiles by their bits (errors of 1e10 where fp16 and float32 are right) and
truncates on the way from float32 to bf16. `arithmetic.dot` widens to float32 there and `arithmetic.narrow` rounds
by hand, so that what these tests see of a kernel in bf16 is what the hardware computes.

float32 products may be three of TF32: what `torch.set_float32_matmul_precision("high")` allows, and its error.

An operand is cut to TF32's 10 bits of mantissa, a = high + low + rest with |low| <= 2^-10 |a|, |rest| <= 2^-20 |a|, and
low * low is left out. So a product of two is off by at most 3 x 2^-20 |a| |b|, in addition to float32's own sums. The
interpreter multiplies in float32: `arithmetic.dot` makes the three products there, in the order of the compiled code,
whose PTX `compile_check` counts (three times the multiply-adds of one product, on tensor cores).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
import triton
import triton.language as tl

from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow
from tests.support.kernels.aw_loss import TRITON_DEVICE as DEVICE
from tests.support.kernels.aw_loss import loss_and_gradients, worst
from tests.support.kernels.aw_loss import triton_problem as problem

CUT = 3 * 2.0**-20


@pytest.fixture
def tf32x3() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


@triton.jit
def product(a_p, b_p, product_p, SIZE: tl.constexpr, PRECISION: tl.constexpr):
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    a = tl.load(a_p + rows * SIZE + columns)
    b = tl.load(b_p + rows * SIZE + columns)
    tl.store(product_p + rows * SIZE + columns, dot(a, b, tl.zeros((SIZE, SIZE), tl.float32), PRECISION))


@triton.jit
def rounded(x_p, low_p, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(low_p + i, narrow(tl.load(x_p + i), low_p.dtype.element_ty))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_products_are_exact_to_float32(dtype: torch.dtype) -> None:
    a, b = (torch.randn(64, 64, device=DEVICE).to(dtype) for _ in range(2))
    got = torch.full((64, 64), float("nan"), device=DEVICE)
    product[(1,)](a, b, got, SIZE=64, PRECISION="ieee")
    torch.testing.assert_close(got.double(), a.double() @ b.double(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_rounding_is_that_of_torch(dtype: torch.dtype) -> None:
    x = torch.randn(1024, device=DEVICE) * torch.logspace(-4, 4, 1024, device=DEVICE)
    x[:8] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1 + 2**-8, 1 + 3 * 2**-8, 1.9999999])
    low = torch.zeros(1024, dtype=dtype, device=DEVICE)
    rounded[(1,)](x, low, SIZE=1024)
    torch.testing.assert_close(low, x.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("spread", [0.0, 6.0], ids=["alike", "of-every-size"])
def test_a_product_keeps_its_bound_and_one_of_tf32_would_not(spread: float) -> None:
    size = 64
    generator = torch.Generator().manual_seed(3)
    a, b = (torch.randn(size, size, generator=generator) for _ in range(2))
    a *= 10 ** (spread * (torch.rand(size, size, generator=generator) - 0.5))
    a, b = a.to(DEVICE), b.to(DEVICE)
    got = torch.full((size, size), float("nan"), device=DEVICE)
    product[(1,)](a, b, got, SIZE=size, PRECISION="tf32x3")
    sizes = a.double().abs() @ b.double().abs()
    bound = (CUT + size * torch.finfo(torch.float32).eps / 2) * sizes
    assert ((got.double() - a.double() @ b.double()).abs() <= bound).all()
    cut = [(x.view(torch.int32) & -8192).view(torch.float32).double() for x in (a, b)]
    assert ((cut[0] @ cut[1] - a.double() @ b.double()).abs() > bound).any()


@pytest.mark.usefixtures("tf32x3")
@pytest.mark.parametrize("negatives", [False, True], ids=["target", "all items"])
@pytest.mark.parametrize("shape", [(9, 40, 40), (3, 20, 140)], ids=str)
def test_the_loss_moves_by_what_its_logits_may(shape: tuple[int, int, int], negatives: bool) -> None:
    """A cosine is a product of unit vectors, so off by at most CUT and float32's roundings, its logit by 16 times that.

    Relatively, probabilities move by twice a logit; the slopes of loss and gradient by log p are below 32.
    """
    queries, catalog, targets, weights = problem(*shape, seed=2)
    inputs = (queries.float().double(), catalog.float().double(), targets, torch.ones_like(weights))
    run = partial(loss_and_gradients, compute=None, inputs=inputs, gamma=2.0, negatives=negatives)
    exact, got = run("reference", torch.float64), run("triton", torch.float32)
    bound = 2 * 16 * (CUT + 8 * torch.finfo(torch.float32).eps) * 32
    for truth, ours in zip(exact, got, strict=True):
        assert worst(ours, truth) <= bound * max(truth.abs().max().item(), 1.0)
    torch.set_float32_matmul_precision("highest")
    assert not torch.equal(run("triton", torch.float32)[1], got[1])


@pytest.mark.usefixtures("tf32x3")
def test_a_backward_pass_takes_the_precision_of_its_forward_pass() -> None:
    queries, catalog, targets, _ = problem(9, 40, 24)
    gradients = []
    for precision in ("high", "highest"):
        e = catalog.float().requires_grad_()
        torch.set_float32_matmul_precision("high")
        loss = aw_loss(queries.float(), e, targets, scale=16, gamma=2, backend="triton")
        torch.set_float32_matmul_precision(precision)
        gradients.append(torch.autograd.grad(loss, e)[0])
    assert torch.equal(*gradients)
