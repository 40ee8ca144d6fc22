"""prefix_interest: the reference against the paper's formulas, prefix by prefix; its backends, checks and masks."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels import dispatch, triton_device
from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, Tiles, prefix_interest
from mtaw_fast.kernels.prefix_interest.dropout import dropout_mask, philox


def weights_of(d: int, dtype: torch.dtype = torch.float32) -> PrefixInterestWeights:
    shapes = [(d, d), (d,), (d, d), (d,), (d, d), (d,), (d,), (d,), (d, d), (d,)]
    return PrefixInterestWeights(*(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes))


def one_prefix(x: Tensor, mask: Tensor, w: PrefixInterestWeights) -> Tensor:
    """o of the last click of x: float64[m, d], by explicit loops."""
    d = x.shape[1]
    interests = []
    for t in range(len(x)):
        q = torch.relu(w.itl_query_weight @ x[t] + w.itl_query_bias)
        attention = torch.softmax(x[: t + 1] @ q / d**0.5, dim=0)
        instant = attention @ x[: t + 1]
        hidden = torch.relu(w.ffn_in_weight @ instant + w.ffn_in_bias)
        y = instant + mask[t] * (w.ffn_out_weight @ hidden + w.ffn_out_bias)
        centered = y - y.mean()
        interests.append(centered / (centered.square().mean() + 1e-5).sqrt() * w.norm_weight + w.norm_bias)
    stacked = torch.stack(interests)
    q = torch.relu(w.iel_query_weight @ stacked[-1] + w.iel_query_bias)
    return torch.softmax(stacked @ q / d**0.5, dim=0) @ stacked


@pytest.mark.parametrize("lengths", [[1], [3], [1, 1, 1], [5, 1, 9, 2]], ids=str)
def test_every_row_is_the_paper_s_formula_on_its_prefix(lengths: list[int]) -> None:
    d = 6
    x = torch.randn(sum(lengths), d, dtype=torch.float64, requires_grad=True)
    mask = (torch.rand(sum(lengths), d, dtype=torch.float64) > 0.3) / 0.7
    offsets = torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()])
    weights = weights_of(d, torch.float64)
    direction = torch.randn_like(x)

    got = prefix_interest(x, offsets, weights, ffn_dropout_mask=mask)
    got_gradients = torch.autograd.grad((got * direction).sum(), [x, *weights])
    rows = [
        one_prefix(x[begin : begin + t], mask[begin : begin + t], weights)
        for begin, length in zip(offsets.tolist(), lengths, strict=False)
        for t in range(1, length + 1)
    ]
    expected = torch.stack(rows)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    gradients = torch.autograd.grad((expected * direction).sum(), [x, *weights])
    for a, b in zip(got_gradients, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def test_a_row_knows_nothing_of_later_clicks_or_other_sessions() -> None:
    d = 8
    weights = weights_of(d, torch.float64)
    x = torch.randn(9, d, dtype=torch.float64)
    offsets = torch.tensor([0, 4, 9])
    before = prefix_interest(x, offsets, weights)
    changed = x.clone()
    changed[6:] += 100 * torch.randn(3, d, dtype=torch.float64)  # the last three clicks of the second session
    after = prefix_interest(changed, offsets, weights)
    torch.testing.assert_close(after[:6], before[:6])
    assert not torch.isclose(after[6:], before[6:]).any(dim=1).all()


def test_an_empty_batch() -> None:
    x = torch.zeros(0, 4, dtype=torch.float64)
    assert prefix_interest(x, torch.tensor([0]), weights_of(4, torch.float64)).shape == (0, 4)


def call(d: int = 8, **changes: Any) -> torch.Tensor:
    arguments: dict[str, Any] = {
        "clicks": torch.randn(5, d),
        "offsets": torch.tensor([0, 2, 5]),
        "weights": weights_of(d),
    }
    return prefix_interest(**(arguments | changes))


def tiles(lengths: list[int], capacity: int = 16) -> Tiles:
    return Tiles.of(np.concatenate([[0], np.cumsum(lengths)]), "cpu", capacity=capacity)


def test_on_a_cpu_the_reference_is_chosen_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    dispatch._log_choice.cache_clear()
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        call()
        call()
    assert [record.message for record in caplog.records] == ["prefix_interest: backend reference"]


def test_an_error_names_every_reason() -> None:
    with pytest.raises(UnsupportedError) as caught:
        call(
            d=130,
            clicks=torch.randn(5, 130, dtype=torch.float64),
            weights=weights_of(130, torch.float64),
            ffn_dropout_mask=torch.ones(5, 130),
            compute_dtype=torch.int8,
            backend="triton",
        )
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("prefix_interest: no backend takes clicks torch.float64[5, 130], offsets [3]")
    reasons = [
        "d = 130 is over 128",
        "clicks torch.float64 is none of float32, bfloat16, float16",
        "compute_dtype torch.int8 is none of",
        "the weights are not all float32",
        "takes no ffn_dropout_mask",
        "it needs tiles=Tiles.of(",
    ]
    if not triton_device.interpreting():
        reasons.append("the tensors are on the CPU" if triton_device.installed() else "'triton' is not installed")
    assert all(reason in message for reason in reasons), message


def test_tiles_that_no_kernel_takes() -> None:
    with pytest.raises(UnsupportedError, match="tiles of 24 clicks are none of 16, 32, 64"):
        call(tiles=tiles([2, 3], capacity=24), backend="triton")
    elsewhere = dataclasses.replace(tiles([2, 3]), slot_click=torch.empty(16, dtype=torch.int32, device="meta"))
    with pytest.raises(UnsupportedError, match="tiles are on meta, clicks on cpu"):
        call(tiles=elsewhere, backend="triton")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clicks": torch.zeros(5)}, r"clicks must be float\[T, d\], not torch.float32\[5\]"),
        ({"clicks": torch.zeros(5, 8, dtype=torch.int64)}, r"clicks must be float\[T, d\]"),
        ({"offsets": torch.tensor([0, 5], dtype=torch.int32)}, r"offsets must be int64\[B \+ 1\], not torch.int32"),
        ({"offsets": torch.zeros(0, dtype=torch.int64)}, r"offsets must be int64\[B \+ 1\]"),
        ({"weights": weights_of(7)}, r"itl_query_weight must be \[8, 8\] for d = 8, not \[7, 7\]"),
        ({"tiles": tiles([2, 4])}, "tiles are the plan of 6 clicks, not of 5"),
        ({"ffn_dropout_mask": torch.ones(4, 8)}, r"ffn_dropout_mask must be float\[5, 8\]"),
        ({"ffn_dropout_mask": torch.ones(5, 8), "ffn_dropout": 0.1, "seed": 1}, "takes the place of ffn_dropout"),
        ({"ffn_dropout": 1.0, "seed": 1}, r"ffn_dropout must be in \[0, 1\), not 1.0"),
        ({"click_dropout": -0.1, "seed": 1}, r"click_dropout must be in \[0, 1\), not -0.1"),
        ({"click_dropout": 0.1}, "click_dropout = 0.1 needs a seed"),
        ({"seed": torch.tensor([1.0])}, r"seed must be int64\[1\] or a number, not torch.float32\[1\]"),
        ({"backend": "cuda"}, "there is no backend 'cuda'; choose auto, triton, reference"),
    ],
)
def test_malformed_arguments_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0, 0, 0, 0], [0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_its_authors_known_answers(counter: list[int], key: list[int], expected: list[int]) -> None:
    """Random123's kat_vectors, philox4x32 with 10 rounds."""
    seed = torch.tensor([key[1] << 32 | key[0]], dtype=torch.uint64).view(torch.int64)
    a, b, c, e = (torch.tensor([word]) for word in counter)
    assert [int(word) for word in philox((a, b, c, e), seed)] == expected


def test_masks_drop_the_asked_share_independently() -> None:
    seed = torch.tensor([11])
    masks = [dropout_mask(seed, stream, (400, 101), 0.3) for stream in (0, 1)]
    masks.append(dropout_mask(seed + 1, 0, (400, 101), 0.3))
    kept = [mask != 0 for mask in masks]
    for mask, keep in zip(masks, kept, strict=True):
        assert mask[keep].unique().tolist() == [pytest.approx(1 / 0.7)]
        assert keep.float().mean().item() == pytest.approx(0.7, abs=0.01)  # 4 deviations: 0.009
    for first, second in ((0, 1), (0, 2)):
        assert (kept[first] & kept[second]).float().mean().item() == pytest.approx(0.49, abs=0.01)
    assert torch.equal(dropout_mask(seed, 0, (7, 101), 0.3), masks[0][:7])


def test_a_seed_gives_the_mask_that_can_be_given_instead() -> None:
    clicks, offsets, weights = torch.randn(5, 8), torch.tensor([0, 2, 5]), weights_of(8)
    seeded = prefix_interest(clicks, offsets, weights, click_dropout=0.2, ffn_dropout=0.5, seed=77)
    word = torch.tensor([77])
    masked = prefix_interest(
        clicks * dropout_mask(word, 0, (5, 8), 0.2),
        offsets,
        weights,
        ffn_dropout_mask=dropout_mask(word, 1, (5, 8), 0.5),
    )
    assert torch.equal(seeded, masked)


def test_low_precision_is_rounded_where_it_is_asked_for() -> None:
    clicks, offsets, weights = torch.randn(5, 8), torch.tensor([0, 2, 5]), weights_of(8)
    exact = prefix_interest(clicks, offsets, weights)
    rounded = prefix_interest(clicks, offsets, weights, compute_dtype=torch.bfloat16)
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1
