"""The reference backend of adam_step against torch.optim.AdamW with clip_grad_norm_, and the op's contract."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.kernels.triton_device import interpreting
from tests.support.kernels.adam import RATES, SETTINGS, by_op, by_torch, rounds

CPU = torch.device("cpu")


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("sizes", [[7], [1000, 1, 33]], ids=str)
def test_the_reference_is_torch_s_clipped_adamw(settings: AdamSettings, sizes: list[int]) -> None:
    problem = rounds(sizes, torch.float64, CPU)
    got, norms, steps = by_op(problem, RATES, settings, "reference")
    for a, b in zip(got, by_torch(problem, RATES, settings), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-12)  # the rates are float32
    expected = [torch.cat(gradients).norm().item() for gradients in problem[1:]]
    assert norms == pytest.approx(expected, rel=1e-12)
    assert steps == len(RATES)


def test_a_step_that_is_not_to_apply_changes_nothing() -> None:
    problem = rounds([50, 3], torch.float64, CPU)
    problem[2] = [torch.full_like(value, torch.nan) for value in problem[2]]
    got, _, steps = by_op(problem, RATES[:3], AdamSettings(clip_norm=1.0), "reference", skipped=(1,))
    without = [problem[0], problem[1], problem[3]]
    expected, _, _ = by_op(without, [RATES[0], RATES[2]], AdamSettings(clip_norm=1.0), "reference")
    assert steps == 2
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


def a_group(n: int = 4, dtype: torch.dtype = torch.float32) -> AdamGroup:
    return AdamGroup(*(torch.zeros(n, dtype=dtype) for _ in range(4)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": []}, "no group"),
        ({"groups": [a_group()._replace(gradients=torch.zeros(5))]}, r"group 0: gradients must be .*float32\[4\]"),
        ({"groups": [a_group()._replace(weights=torch.zeros(2, 2))]}, "group 0: weights"),
        ({"groups": [a_group(), a_group(dtype=torch.float64)]}, "group 1: weights"),
        ({"groups": [a_group()._replace(first_moments=torch.zeros(8)[::2])]}, "contiguous"),
        ({"step": torch.zeros(1)}, "step must be"),
        ({"learning_rate": torch.zeros((), dtype=torch.int64)}, "learning_rate must be"),
        ({"apply": torch.ones(())}, "apply must be"),
        ({"backend": "magic"}, "no backend 'magic'"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_malformed_arguments(change: dict, message: str) -> None:
    arguments = {
        "groups": [a_group()],
        "step": torch.zeros(()),
        "learning_rate": torch.zeros(()),
        "apply": torch.tensor(True),
        "settings": AdamSettings(),
    }
    with pytest.raises(UsageError, match=message):
        adam_step(**(arguments | change))


@pytest.mark.parametrize("bad", [{"beta1": 1.0}, {"beta2": -0.1}, {"eps": 0.0}, {"clip_norm": -1.0}])
def test_settings_out_of_range(bad: dict) -> None:
    with pytest.raises(UsageError, match="adam_step: AdamSettings"):
        AdamSettings(**bad)


@pytest.mark.skipif(interpreting(), reason="TRITON_INTERPRET=1: CPU tensors fit for Triton")
def test_a_refusal_names_the_reason() -> None:
    scalars: dict[str, Any] = {"apply": torch.tensor(True), "settings": AdamSettings()}
    with pytest.raises(UnsupportedError, match=r"groups of 4 torch.float64 weights on cpu .*must be float32"):
        adam_step([a_group(dtype=torch.float64)], torch.zeros(()), torch.zeros(()), backend="triton", **scalars)
