"""The Triton backend of prefix_interest against float64, compared with eager PyTorch in the same dtype.

bf16 under the interpreter: its `tl.dot` takes the bits of bf16 for integers, and its casts truncate.
`triton_kernels/arithmetic.py` multiplies in float32 there (exact for bf16 operands) and rounds to nearest even,
so what runs here is what hardware computes, except for the order of the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, Tiles, prefix_interest
from mtaw_fast.kernels.prefix_interest.dropout import dropout_mask, keep_factor, threshold
from mtaw_fast.kernels.prefix_interest.triton_kernels.tile import dropout_factors
from tests.support.kernels.prefix_interest import SEED, draw, forward_and_gradients, offsets_of

NAMES = ("o", "clicks", *PrefixInterestWeights._fields)
DRAWS = 6  # of fewer the ratio of two errors is luck: over 12 it is 0.6 to 1.1 for every gradient in float32
DTYPES = [
    pytest.param(torch.float32, torch.float32, id="float32"),
    pytest.param(torch.float32, torch.bfloat16, id="float32-bf16"),
    # It differs from bf16 in its casts alone, and test_aw_loss.py looks for what fp16 loses.
    pytest.param(torch.float32, torch.float16, id="float32-fp16", marks=pytest.mark.slow),
    pytest.param(torch.bfloat16, torch.bfloat16, id="bf16"),
]

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def check_against_eager(
    lengths: list[int], d: int, given: torch.dtype, compute: torch.dtype, device: torch.device,
    draws: int = DRAWS, **options: Any,
) -> None:  # fmt: skip
    """Root of the summed squared errors over the draws: at most twice eager's, plus eps of the values' own."""
    truths, eagers, ours = [], [], []
    for seed in range(draws):
        inputs = [tensor.to(given).double() for tensor in draw(sum(lengths), d, seed)]
        truths.append(
            forward_and_gradients("reference", inputs, lengths, torch.float64, torch.float64, device, **options)
        )
        eagers.append(forward_and_gradients("reference", inputs, lengths, given, compute, device, **options))
        ours.append(forward_and_gradients("triton", inputs, lengths, given, compute, device, **options))

    def size(tensors: list[Tensor]) -> float:
        return torch.stack(tensors).norm().item()

    for name, *values in zip(NAMES, zip(*truths), zip(*eagers), zip(*ours), strict=True):  # noqa: B905
        truth, eager, got = values
        error = size([a - b for a, b in zip(got, truth, strict=True)])
        allowed = 2 * size([a - b for a, b in zip(eager, truth, strict=True)])
        assert error <= allowed + torch.finfo(compute).eps * size(list(truth)), name


@pytest.mark.parametrize(("given", "compute"), DTYPES)
def test_is_as_close_to_float64_as_eager_is(given: torch.dtype, compute: torch.dtype, device: torch.device) -> None:
    check_against_eager([7, 1, 1, 12, 3], 20, given, compute, device)


@pytest.mark.parametrize(("given", "compute"), DTYPES)
def test_dropout_is_as_close_to_float64_as_eager_is_under_the_same_masks(
    given: torch.dtype, compute: torch.dtype, device: torch.device
) -> None:
    check_against_eager([9, 1, 2], 33, given, compute, device, dropout=(0.2, 0.4))


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_a_lone_click(compute: torch.dtype, device: torch.device) -> None:
    check_against_eager([1], 16, torch.float32, compute, device, dropout=(0.2, 0.4))


@pytest.mark.parametrize("compute", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)], ids=str)
def test_sessions_longer_than_a_tile(compute: torch.dtype, device: torch.device) -> None:
    check_against_eager([20, 2, 17], 20, torch.float32, compute, device, dropout=(0.2, 0.4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compute", "d", "capacity"),
    [(torch.float32, 100, 32), (torch.bfloat16, 100, 32), (torch.bfloat16, 128, 64)],
    ids=str,
)
def test_widths_and_tiles_of_training(compute: torch.dtype, d: int, capacity: int, device: torch.device) -> None:
    check_against_eager([70, 1, 33, 5, 8], d, torch.float32, compute, device, capacity=capacity, dropout=(0.2, 0.0))


@pytest.mark.slow
def test_a_session_of_512_clicks(device: torch.device) -> None:
    check_against_eager([512, 3], 16, torch.float32, torch.float32, device, capacity=64, draws=2)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 37), min_size=1, max_size=5),
    d=st.integers(1, 40),
    ffn_dropout=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 1000),
)
def test_any_shape(lengths: list[int], d: int, ffn_dropout: float, seed: int, device: torch.device) -> None:
    inputs = draw(sum(lengths), d, seed)
    run: Callable[..., list[Tensor]] = forward_and_gradients
    options: dict[str, Any] = {"dropout": (0.0, ffn_dropout)}
    expected = run("reference", inputs, lengths, torch.float64, torch.float64, device, **options)
    got = run("triton", inputs, lengths, torch.float32, torch.float32, device, **options)
    for name, a, b in zip(NAMES, got, expected, strict=True):
        # d = 1 normalizes to 0: gradients through it are rounding errors over sqrt(eps of the norm).
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, sum(lengths) ** 0.5), msg=name)


def test_sessions_without_clicks(device: torch.device) -> None:
    for lengths in ([], [0], [0, 0, 0]):
        got = forward_and_gradients("triton", draw(0, 20), lengths, torch.float32, torch.float32, device)
        assert got[0].shape == got[1].shape == (0, 20)
        assert all((gradient == 0).all() for gradient in got[2:])
    with_gaps = forward_and_gradients("triton", draw(6, 20), [0, 4, 0, 2, 0], torch.float32, torch.float32, device)
    without = forward_and_gradients("triton", draw(6, 20), [4, 2], torch.float32, torch.float32, device)
    assert all(torch.equal(a, b) for a, b in zip(with_gaps, without, strict=True))


@pytest.mark.parametrize("dropout", [(0.0, 0.0), (0.3, 0.3)], ids=["", "dropout"])
def test_the_same_bits_on_every_run_and_with_more_tiles(dropout: tuple[float, float], device: torch.device) -> None:
    first, *others = (
        forward_and_gradients(
            "triton", draw(25, 20), [20, 3, 2], torch.float32, torch.bfloat16, device, dropout=dropout,
            min_tiles=min_tiles,
        )
        for min_tiles in (0, 0, 4)
    )  # fmt: skip
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_a_row_knows_nothing_of_later_clicks_or_other_sessions(device: torch.device) -> None:
    """Bit for bit, though sessions share tiles."""
    inputs, lengths = draw(31, 20), [4, 7, 20]
    before = forward_and_gradients("triton", inputs, lengths, torch.float32, torch.float32, device)[0]
    changed = [tensor.clone() for tensor in inputs]
    changed[0][9:11] *= 100  # the last two clicks of the second session
    changed[0][20:] *= 100  # all but nine of the third's
    after = forward_and_gradients("triton", changed, lengths, torch.float32, torch.float32, device)[0]
    same = torch.ones(31, dtype=torch.bool)
    same[9:11] = same[20:] = False
    assert torch.equal(before[same], after[same])
    assert (before[~same] != after[~same]).any(dim=1).all()


def test_the_order_of_the_sessions_changes_no_more_than_roundings(device: torch.device) -> None:
    """Another place in a tile is another order of the sums, so the bits may differ."""
    lengths, order = [5, 20, 1, 9, 5], [3, 0, 4, 2, 1]
    inputs, offsets = draw(40, 20), offsets_of(lengths)
    clicks = torch.cat([torch.arange(offsets[b], offsets[b + 1]) for b in order])
    shuffled = [inputs[0][clicks], *inputs[1:-1], inputs[-1][clicks]]
    first = forward_and_gradients("triton", inputs, lengths, torch.float32, torch.float32, device)
    other = forward_and_gradients("triton", shuffled, [lengths[b] for b in order], torch.float32, torch.float32, device)
    for a, b in zip([first[0][clicks], first[1][clicks], *first[2:]], other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@triton.jit
def write_factors(seed, out, n_clicks, limit, factor, STREAM: tl.constexpr, M: tl.constexpr, D: tl.constexpr):
    click = tl.program_id(0) * M + tl.arange(0, M)
    factors = dropout_factors(seed, STREAM, click, limit, factor, D)
    column = tl.arange(0, D)
    tl.store(out + click[:, None] * D + column[None, :], factors, mask=(click < n_clicks)[:, None])


@pytest.mark.parametrize("stream", [0, 1])
@pytest.mark.parametrize("seed", [0, 1, SEED, 2**63 - 1, -1])
def test_the_kernels_masks_are_those_of_the_reference(seed: int, stream: int, device: torch.device) -> None:
    word = torch.tensor([seed], device=device)
    out = torch.empty(37, 32, device=device)
    write_factors[(3,)](word, out, 37, threshold(0.3), keep_factor(0.3), STREAM=stream, M=16, D=32)
    assert torch.equal(out, dropout_mask(word, stream, (37, 32), 0.3))


class NothingIsReadBack(TorchDispatchMode):
    """Fails where a tensor's values reach the host, which on a GPU waits for it."""

    READS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_to_copy", "unique", "repeat_interleave")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert not any(name in str(func) for name in self.READS), func
        return func(*args, **(kwargs or {}))


def test_a_step_reads_nothing_back(device: torch.device) -> None:
    *leaves, upstream = (tensor.to(device, torch.float32) for tensor in draw(24, 20))
    for leaf in leaves:
        leaf.requires_grad_()
    tiles = Tiles.of(offsets_of([20, 4]), device, capacity=16)
    seed = torch.tensor([SEED], device=device)
    never_read = torch.full((3,), -7, dtype=torch.int64, device=device)
    with NothingIsReadBack():
        o = prefix_interest(
            leaves[0], never_read, PrefixInterestWeights(*leaves[1:]), tiles=tiles, click_dropout=0.1, ffn_dropout=0.1,
            seed=seed, compute_dtype=torch.bfloat16, backend="triton",
        )  # fmt: skip
        gradients = torch.autograd.grad(o, leaves, upstream)
    assert all(torch.isfinite(tensor).all() for tensor in (o, *gradients))


def test_inputs_of_any_stride(device: torch.device) -> None:
    *leaves, upstream = (tensor.to(device, torch.float32) for tensor in draw(8, 16))
    offsets = offsets_of([5, 3])
    tiles = Tiles.of(offsets, device, capacity=16)

    def run(strided: bool) -> list[Tensor]:
        views = [leaf.T.contiguous().T if strided and leaf.ndim == 2 else leaf.clone() for leaf in leaves]
        for view in views:
            view.requires_grad_()
        o = prefix_interest(
            views[0], torch.from_numpy(offsets).to(device), PrefixInterestWeights(*views[1:]), tiles=tiles,
            backend="triton",
        )  # fmt: skip
        return [o, *torch.autograd.grad(o, views, upstream.T.contiguous().T if strided else upstream)]

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False), strict=True))
