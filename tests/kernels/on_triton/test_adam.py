"""The fused Adam kernels against torch.optim.AdamW with clip_grad_norm_, odd sizes and all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.kernels.adam import AdamGroup, AdamRequest, AdamSettings, fused
from mtaw_fast.kernels.adam.configs import AdamLaunch
from tests.support.kernels.adam import RATES, SETTINGS, by_op, by_torch, rounds

SIZES = [[1], [1024], [1025, 7], [4096 + 3, 1, 100 * 100 + 100]]


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("constants", SETTINGS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_as_close_to_float64_as_torch_is(sizes: list[int], constants: AdamSettings, device: torch.device) -> None:
    problem = rounds(sizes, torch.float32, device)
    exact = by_torch([[value.double() for value in values] for values in problem], RATES, constants)
    eager = by_torch(problem, RATES, constants)
    ours, norms, steps = by_op(problem, RATES, constants, "triton")
    eps = torch.finfo(torch.float32).eps
    for truth, peer, got in zip(exact, eager, ours, strict=True):
        size = truth.abs().max().item()
        assert (got - truth).abs().max() <= 2 * (peer - truth).abs().max() + 2 * eps * size
    expected = [torch.cat(gradients).double().norm().item() for gradients in problem[1:]]
    assert norms == pytest.approx(expected, rel=1e-6)
    assert steps == len(RATES)


@given(sizes=st.lists(st.integers(1, 300), min_size=1, max_size=3), seed=st.integers(0, 1 << 20))
@settings(max_examples=15, deadline=None)
def test_any_sizes(sizes: list[int], seed: int) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    problem = rounds(sizes, torch.float32, device, seed)
    constants = AdamSettings(weight_decay=0.01, clip_norm=1.0)
    ours, _, _ = by_op(problem, RATES, constants, "triton")
    for a, b in zip(ours, by_torch(problem, RATES, constants), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_a_step_that_is_not_to_apply_changes_nothing(device: torch.device) -> None:
    problem = rounds([1500, 3], torch.float32, device)
    problem[2] = [torch.full_like(value, torch.nan) for value in problem[2]]
    got, _, steps = by_op(problem, RATES[:3], AdamSettings(clip_norm=1.0), "triton", skipped=(1,))
    without = [problem[0], problem[1], problem[3]]
    expected, _, _ = by_op(without, [RATES[0], RATES[2]], AdamSettings(clip_norm=1.0), "triton")
    assert steps == 2
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def test_more_partial_sums_than_one_pass_adds(device: torch.device) -> None:
    gradients = torch.linspace(-1, 1, 700, device=device)
    group = AdamGroup(torch.zeros_like(gradients), gradients, torch.zeros_like(gradients), torch.zeros_like(gradients))
    options: dict[str, Any] = {"device": device}
    request = AdamRequest(
        [group], torch.zeros((), **options), torch.ones((), **options), torch.tensor(True, **options), AdamSettings()
    )
    norm = fused.adam_step(request, AdamLaunch(block=128, sum_block=16, partials_block=8))
    assert norm.item() == pytest.approx(gradients.double().norm().item(), rel=1e-6)


def test_a_gradient_that_is_not_a_number_shows_as_with_torch(device: torch.device) -> None:
    problem = rounds([5], torch.float32, device)
    problem[1][0][2] = torch.nan
    got, norms, _ = by_op(problem, RATES[:1], AdamSettings(clip_norm=1.0), "triton")
    expected = by_torch(problem, RATES[:1], AdamSettings(clip_norm=1.0))
    assert norms[0] != norms[0]
    assert torch.equal(got[0].isnan(), expected[0].isnan())
