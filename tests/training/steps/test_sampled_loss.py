"""The loss over a sample of the catalog: an unbiased partition sum, and the full softmax if all items are drawn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.native.loss import multiplies_bfloat16
from mtaw_fast.training.steps.negative_sampling import CatalogSample
from mtaw_fast.training.steps.sampled_loss import sampled_aw_loss

N, S, D, SCALE = 30, 7, 5, 6.0


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """(queries, items, targets) in float64."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(S, D, dtype=torch.float64, generator=generator)
    items = torch.randn(N, D, dtype=torch.float64, generator=generator)
    return queries, items, torch.randint(N, (S,), generator=generator)


def own_of(targets: Tensor) -> tuple[np.ndarray, Tensor]:
    """The distinct targets and 3 of the others, and where the targets are among them."""
    own = np.union1d(targets.numpy(), [0, 1, N - 1])
    return own, torch.from_numpy(np.searchsorted(own, targets.numpy()))


def partition_sum(sample: CatalogSample, queries: Tensor, items: Tensor, places: Tensor) -> Tensor:
    """float64[S]: what the loss takes for it, read back from the losses of single rows at gamma 0."""
    rows = items[torch.from_numpy(sample.rows)]
    sums = []
    for row in range(S):
        loss = sampled_aw_loss(
            queries[row : row + 1], rows, places[row : row + 1], sample, scale=SCALE, gamma=0.0
        )  # log S - z
        target = functional.cosine_similarity(queries[row], rows[places[row]], dim=0)
        sums.append((loss + SCALE * target).exp())
    return torch.stack(sums)


def whole_sum(queries: Tensor, items: Tensor) -> Tensor:
    logits = SCALE * functional.normalize(queries, dim=1) @ functional.normalize(items, dim=1).T
    return logits.exp().sum(dim=1)


def test_the_partition_sum_is_unbiased_over_every_sample_there_is() -> None:
    queries, items, targets = inputs()
    own, places = own_of(targets)
    others = np.setdiff1d(np.arange(N), own)
    sums = [
        partition_sum(
            CatalogSample(np.concatenate([own, pair]), len(own), math.log(len(others) / 2)), queries, items, places
        )
        for pair in itertools.combinations(others, 2)
    ]
    torch.testing.assert_close(torch.stack(sums).mean(dim=0), whole_sum(queries, items), rtol=1e-12, atol=0)


def test_draws_are_of_the_others_alone_and_equally_likely() -> None:
    own, rng, times = np.array([0, 3, 4, 11, 29]), np.random.default_rng(0), np.zeros(N)
    for _ in range(4000):
        sample = CatalogSample.drawn(own, N, 10, rng)
        assert sample.rows[:5].tolist() == own.tolist()
        assert len(np.unique(sample.rows)) == 15
        times[sample.rows[5:]] += 1
    assert times[own].sum() == 0
    assert sample.correction == pytest.approx(math.log(25 / 10))
    share, expected = np.delete(times, own) / 4000, 10 / 25
    assert np.abs(share - expected).max() < 5 * math.sqrt(expected * (1 - expected) / 4000)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_where_all_are_drawn_it_is_the_full_softmax(gamma: float, weighted: bool) -> None:
    queries, items, targets = inputs(2)
    weights = torch.tensor([1.0, 0.0, 3.0, 0.5, 1.0, 2.0, 1.0], dtype=torch.float64) if weighted else None
    queries.requires_grad_()
    items.requires_grad_()
    full = aw_loss(queries, items, targets, scale=SCALE, gamma=gamma, weights=weights, backend="reference")
    expected = torch.autograd.grad(full, (queries, items))
    own, places = own_of(targets)
    sample = CatalogSample.drawn(own, N, N, np.random.default_rng(0))
    assert sample.correction == 0
    rows = items.detach()[torch.from_numpy(sample.rows)].requires_grad_()
    loss = sampled_aw_loss(queries, rows, places, sample, scale=SCALE, gamma=gamma, weights=weights)
    d_queries, d_rows = torch.autograd.grad(2 * loss, (queries, rows))
    assert loss.item() == pytest.approx(full.item(), rel=1e-12)
    torch.testing.assert_close(d_queries, 2 * expected[0])
    torch.testing.assert_close(d_rows, 2 * expected[1][torch.from_numpy(sample.rows)])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_the_kernel_in_c_computes_the_same(dtype: torch.dtype, tolerance: float, weighted: bool) -> None:
    if dtype == torch.bfloat16 and not multiplies_bfloat16():
        pytest.skip("this CPU has no bfloat16 instructions")
    generator = torch.Generator().manual_seed(0)
    queries, items = (torch.randn(count, 20, generator=generator).double() for count in (70, 3000))
    targets = torch.randint(3000, (70,), generator=generator)
    own, place = np.unique(targets.numpy(), return_inverse=True)
    sample = CatalogSample.drawn(own, 3000, 400, np.random.default_rng(0))
    weights = torch.rand(70, generator=generator).double() if weighted else None
    results = []
    for kind, compute in ((torch.float64, None), (torch.float32, dtype)):
        q, rows = queries.to(kind).requires_grad_(), items[torch.from_numpy(sample.rows)].to(kind).requires_grad_()
        loss = sampled_aw_loss(
            q, rows, torch.from_numpy(place), sample, scale=16.0, gamma=2.0, compute_dtype=compute,
            weights=None if weights is None else weights.to(kind),
        )  # fmt: skip
        assert (type(loss.grad_fn).__name__ == "_WeightedSumBackward") == (kind == torch.float32)
        results.append(
            [loss.detach().double(), *(gradient.double() for gradient in torch.autograd.grad(loss, (q, rows)))]
        )
    for eager, got in zip(*results, strict=True):
        assert (got - eager).norm() <= tolerance * eager.norm()


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_gradients_are_those_of_the_corrected_logits(gamma: float) -> None:
    queries, items, targets = inputs(3)
    own, places = own_of(targets)
    sample = CatalogSample.drawn(own, N, 4, np.random.default_rng(0))
    rows = items[torch.from_numpy(sample.rows)].requires_grad_()
    queries.requires_grad_()
    loss = sampled_aw_loss(queries, rows, places, sample, scale=SCALE, gamma=gamma)
    logits = SCALE * functional.normalize(queries, dim=1) @ functional.normalize(rows, dim=1).T
    shift = torch.zeros(len(rows), dtype=torch.float64)
    shift[sample.always :] = sample.correction
    log_p = (logits + shift).log_softmax(dim=1).gather(1, places[:, None])[:, 0]
    plain = (-((2 - 2 * log_p.exp()) ** gamma) * log_p).mean()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    for got, wanted in zip(
        torch.autograd.grad(loss, (queries, rows)), torch.autograd.grad(plain, (queries, rows)), strict=True
    ):
        torch.testing.assert_close(got, wanted)
