"""The prefix-interest reference against a loop written from the paper's formulas, prefix by prefix."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtaw_fast.kernels.prefix_interest import PrefixInterestWeights, prefix_interest


def make_weights(d: int, seed: int = 0) -> PrefixInterestWeights:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(d, d), (d,), (d, d), (d,), (d, d), (d,), (d,), (d,), (d, d), (d,)]
    return PrefixInterestWeights(
        *(torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes)
    )


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
    weights = make_weights(d)
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
    weights = make_weights(d)
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
    assert prefix_interest(x, torch.tensor([0]), make_weights(4)).shape == (0, 4)
