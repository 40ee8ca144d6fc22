"""The products and roundings that kernels share, compiled and interpreted.

Triton's interpreter multiplies bf16 tiles by their bits (errors of 1e10 where fp16 and float32 are right) and
truncates on the way from float32 to bf16. `arithmetic.dot` widens to float32 there and `arithmetic.narrow` rounds
by hand, so that what these tests see of a kernel in bf16 is what the hardware computes.
"""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from mtaw_fast.kernels.triton_kernels.arithmetic import dot, narrow


@triton.jit
def product(a_p, b_p, product_p, SIZE: tl.constexpr):
    rows, columns = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    a = tl.load(a_p + rows * SIZE + columns)
    b = tl.load(b_p + rows * SIZE + columns)
    tl.store(product_p + rows * SIZE + columns, dot(a, b, tl.zeros((SIZE, SIZE), tl.float32)))


@triton.jit
def rounded(x_p, low_p, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(low_p + i, narrow(tl.load(x_p + i), low_p.dtype.element_ty))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_products_are_exact_to_float32(dtype: torch.dtype, device: torch.device) -> None:
    a, b = (torch.randn(64, 64, device=device).to(dtype) for _ in range(2))
    got = torch.full((64, 64), float("nan"), device=device)
    product[(1,)](a, b, got, SIZE=64)
    torch.testing.assert_close(got.double(), a.double() @ b.double(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_rounding_is_that_of_torch(dtype: torch.dtype, device: torch.device) -> None:
    x = torch.randn(1024, device=device) * torch.logspace(-4, 4, 1024, device=device)
    x[:8] = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1 + 2**-8, 1 + 3 * 2**-8, 1.9999999])
    low = torch.zeros(1024, dtype=dtype, device=device)
    rounded[(1,)](x, low, SIZE=1024)
    torch.testing.assert_close(low, x.to(dtype), rtol=0, atol=0, equal_nan=True)
