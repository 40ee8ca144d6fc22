"""The Triton backend of aw_loss without a GPU: imports, refusals, and its compiled form."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch

from mtaw_fast.errors import UnsupportedError
from mtaw_fast.errors.install import install_packages
from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.compile_check import TARGETS, build

SM_90 = next(target for target in TARGETS if target.name == "sm_90")
compiles = pytest.mark.skipif(
    not triton_device.installed() or triton_device.interpreting(), reason="Triton is not installed, or interprets"
)


def test_without_triton_the_refusal_names_the_command() -> None:
    code = """
import sys
sys.modules["triton"] = None
import torch
from mtaw_fast.kernels.aw_loss import aw_loss
q, e, t = torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1])
aw_loss(q, e, t, scale=16, gamma=2)
aw_loss(q, e, t, scale=16, gamma=2, backend="triton")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "UnsupportedError" in run.stderr.splitlines()[-1]
    assert f"the package 'triton' is not installed: {install_packages('triton>=3.6')}" in run.stderr


@pytest.mark.skipif(triton_device.interpreting(), reason="the interpreter takes tensors on the CPU")
@pytest.mark.skipif(not triton_device.installed(), reason="Triton is not installed")
def test_tensors_on_the_cpu_are_refused() -> None:
    q, e, t = torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1])
    with pytest.raises(UnsupportedError, match="the tensors are on the CPU"):
        aw_loss(q, e, t, scale=16, gamma=2, backend="triton")


@compiles
@pytest.mark.long(caught="test_on_triton.py: rows further apart than 32 bits count")
def test_no_kernel_has_atomics_and_tiles_have_64_bit_offsets() -> None:
    from mtaw_fast.kernels.aw_loss.compile_cases import compile_cases

    tiles = 0
    for case in compile_cases("cuda"):
        if case.rare:
            continue
        text = build(case, SM_90).asm["ttir"]
        assert "atomic" not in text
        # A tile of several rows is addressed by row * stride + column, which passes 2^31 in large catalogs.
        offsets = re.findall(r"tt\.addptr .* : tensor<(\d+)x\d+x!tt\.ptr<\w+>>, tensor<\d+x\d+x(i\d+)>", text)
        tiles += len(offsets)
        assert all(width == "i64" for rows, width in offsets if int(rows) > 1), case.kernel.__name__
    assert tiles > 50


@compiles
@pytest.mark.slow
def test_float32_products_are_cut_to_tf32_only_where_asked_for_and_in_three() -> None:
    from mtaw_fast.kernels.aw_loss.compile_cases import compile_cases

    requested: dict[bool, list[str]] = {False: [], True: []}
    for case in compile_cases("cuda"):
        if case.dtype.startswith("fp32") and not case.rare:
            lines = build(case, SM_90).asm["ttir"].splitlines()
            requested["tf32x3" in case.dtype] += [line for line in lines if "tt.dot" in line]
    assert requested[False]
    assert requested[True]
    assert not any("tf32" in line for line in requested[False])
    assert all("inputPrecision = tf32x3" in line for line in requested[True])
