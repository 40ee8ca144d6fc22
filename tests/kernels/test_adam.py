"""adam_step on a CPU: the reference against torch.optim, the native step's bits and threads, and the op's contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.adam import AdamGroup, AdamSettings, adam_step
from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native import adam as native_adam
from mtaw_fast.kernels.triton_device import interpreting
from tests.support.kernels.adam import RATES, SETTINGS, by_op, by_torch, rounds
from tests.support.kernels.native_loss import has

CPU = torch.device("cpu")
# Around a vector's 16 floats, the norm's 32 sums and a piece's 32,768 floats.
SIZES = [[1], [15, 16, 17], [31, 0, 33], [32_767, 32_769], [100_003, 7]]
LEVELS = [
    pytest.param(isa, marks=pytest.mark.skipif(not has(isa), reason=f"this CPU has no {isa}"))
    for isa in ("portable", "avx2", "avx512", "neon")
]


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


def run(problem: list[list[torch.Tensor]], settings: AdamSettings, isa: str | None, threads: int) -> list[np.ndarray]:
    """Weights, moments and norms after a step a gradient."""
    groups = [[start.numpy().copy(), np.empty(len(start), np.float32)] for start in problem[0]]
    groups = [[*group, np.zeros_like(group[0]), np.zeros_like(group[0])] for group in groups]
    norms = []
    for number, (rate, gradients) in enumerate(zip(RATES, problem[1:], strict=True), 1):
        for group, gradient in zip(groups, gradients, strict=True):
            group[1][:] = gradient.numpy()
        norm = native_adam.adam_step(
            groups, step=number, learning_rate=rate, beta1=settings.beta1, beta2=settings.beta2, eps=settings.eps,
            weight_decay=settings.weight_decay, clip_norm=settings.clip_norm, threads=threads, isa=isa,
        )  # fmt: skip
        norms.append(norm)
    return [array for group in groups for array in (group[0], *group[2:])] + [np.array(norms)]


@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_is_as_close_to_float64_as_torch_is(sizes: list[int], settings: AdamSettings, isa: str) -> None:
    exact = by_torch(rounds(sizes, torch.float64, CPU), RATES, settings)
    problem = rounds(sizes, torch.float32, CPU)
    peer = by_torch(problem, RATES, settings)
    got = run(problem, settings, isa, threads=2)
    ours = [got[3 * group + kind] for kind in range(3) for group in range(len(sizes))]
    for truth, theirs, mine in zip(exact, peer, ours, strict=True):
        if len(truth):
            slack = 2 * torch.finfo(torch.float32).eps * truth.abs().max()
            assert (torch.from_numpy(mine) - truth).abs().max() <= 2 * (theirs - truth).abs().max() + slack
    norms = [torch.cat(gradients).double().norm().item() for gradients in problem[1:]]
    assert got[-1] == pytest.approx(norms, rel=1e-12)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_has_the_bits_of_torch_s_fused_adamw(weight_decay: float) -> None:
    """Where both multiply and add in one rounding."""
    if _native.active_isa() in ("portable", "neon") or "AVX" not in torch.backends.cpu.get_cpu_capability():
        pytest.skip("no FMA here")
    problem = rounds([70_001], torch.float32, CPU)
    weights = problem[0][0].clone().requires_grad_()
    optimizer = torch.optim.AdamW([weights], weight_decay=weight_decay, fused=True)
    for rate, (gradient,) in zip(RATES, problem[1:], strict=True):
        weights.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    state = optimizer.state[weights]
    got = run(problem, AdamSettings(weight_decay=weight_decay), None, threads=2)
    for expected, mine in zip((weights.detach(), state["exp_avg"], state["exp_avg_sq"]), got, strict=False):
        assert expected.numpy().tobytes() == mine.tobytes()


@pytest.mark.parametrize("isa", LEVELS)
def test_the_bits_depend_on_no_number_of_threads(isa: str) -> None:
    problem, settings = rounds([100_003, 7, 40_000], torch.float32, CPU), SETTINGS[-1]
    first = run(problem, settings, isa, threads=1)
    for threads in (2, 3, 7):
        for a, b in zip(first, run(problem, settings, isa, threads), strict=True):
            assert a.tobytes() == b.tobytes()
    assert run(problem, settings, "portable", 1)[-1].tobytes() == first[-1].tobytes()  # the norm is every CPU's


def test_the_op_takes_it_on_a_cpu() -> None:
    problem = rounds([1000, 3], torch.float32, CPU)
    settings = AdamSettings(clip_norm=2.0)
    got, norms, steps = by_op(problem, RATES, settings, "auto", skipped=(1,))
    native, _, _ = by_op(problem, RATES, settings, "native", skipped=(1,))
    expected, expected_norms, _ = by_op(problem, RATES, settings, "reference", skipped=(1,))
    assert steps == len(RATES) - 1
    assert norms == pytest.approx(expected_norms, rel=1e-5)
    for a, b, truth in zip(got, native, expected, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, truth, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("backend", "dtype"), [("reference", torch.float64), ("native", torch.float32)])
def test_a_step_that_is_not_to_apply_changes_nothing(backend: str, dtype: torch.dtype) -> None:
    problem = rounds([50, 3], dtype, CPU)
    problem[2] = [torch.full_like(value, torch.nan) for value in problem[2]]
    got, norms, steps = by_op(problem, RATES[:3], AdamSettings(clip_norm=1.0), backend, skipped=(1,))
    without = [problem[0], problem[1], problem[3]]
    expected, _, _ = by_op(without, [RATES[0], RATES[2]], AdamSettings(clip_norm=1.0), backend)
    assert norms[1] != norms[1]
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


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        pytest.param(
            "triton",
            r"groups of 4 torch.float64 weights on cpu .*must be float32",
            marks=pytest.mark.skipif(interpreting(), reason="TRITON_INTERPRET=1: CPU tensors fit for Triton"),
        ),
        ("native", "native: weights must be float32"),
    ],
)
def test_a_refusal_names_the_reason(backend: str, message: str) -> None:
    scalars: dict[str, Any] = {"apply": torch.tensor(True), "settings": AdamSettings()}
    with pytest.raises(UnsupportedError, match=message):
        adam_step([a_group(dtype=torch.float64)], torch.zeros(()), torch.zeros(()), backend=backend, **scalars)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({1: np.zeros(3, np.float32)}, "group 0: gradients must have the weights' length 4, not 3"),
        ({0: np.zeros(4)}, "group 0: weights must be a C-contiguous float32 vector, not float64"),
        ({2: np.zeros((2, 2), np.float32)}, "group 0: first_moments must be"),
        ({3: np.broadcast_to(np.zeros(1, np.float32), 4)}, "group 0: second_moments must be"),
        ({0: np.frombuffer(bytes(16), np.float32)}, "group 0: weights must be writeable"),
    ],
    ids=["length", "type", "rank", "strides", "read-only"],
)
def test_wrong_arrays_are_refused(change: dict[int, np.ndarray], message: str) -> None:
    arrays = [np.zeros(4, np.float32) for _ in range(4)]
    for place, array in change.items():
        arrays[place] = array
    with pytest.raises(ValueError, match=message):
        native_adam.adam_step([arrays], step=1, learning_rate=1e-3)
    with pytest.raises(ValueError, match="four arrays"):
        native_adam.adam_step([arrays[:3]], step=1, learning_rate=1e-3)
