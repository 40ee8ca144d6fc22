"""The sampled softmax: which items are drawn, the loss over them against formulas, and its steps."""

from __future__ import annotations

import copy
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.native.loss import multiplies_bfloat16
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training import train
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import Stepper
from mtaw_fast.training.steps.negative_sampling import CatalogSample, Occurrences
from mtaw_fast.training.steps.sampled_loss import sampled_aw_loss
from mtaw_fast.training.steps.sampled_step import SampledStepper
from tests.support.training.ring import N_ITEMS, ring_sessions
from tests.support.training.runs import StopsAt, same

FEW = 8
LISTS = st.lists(st.lists(st.integers(0, FEW - 2), min_size=1, max_size=6), min_size=1, max_size=8)


def neighbors(lists: list[list[int]], item: int) -> set[int]:
    """Items right before or right after the item in some session."""
    pairs = [pair for session in lists for pair in itertools.pairwise(session)]
    return {b for a, b in pairs if a == item} | {a for a, b in pairs if b == item}


@given(LISTS, st.sets(st.integers(0, FEW - 1), max_size=FEW))
def test_many_draws_find_every_neighbor_and_nothing_else(lists: list[list[int]], asked: set[int]) -> None:
    drawn = Occurrences(Sessions.from_lists(lists), FEW).neighbors(
        np.array(sorted(asked), dtype=np.int64), 400, np.random.default_rng(0)
    )
    assert drawn.tolist() == sorted(set().union(*(neighbors(lists, item) for item in asked)))


def test_a_neighbor_is_drawn_as_often_as_it_occurs() -> None:
    occurrences = Occurrences(Sessions.from_lists([[0, 1]] * 3 + [[0, 2]]), FEW)
    rng, times = np.random.default_rng(1), 4000
    hits = sum(occurrences.neighbors(np.array([0]), 1, rng).tolist() == [1] for _ in range(times))
    assert abs(hits / times - 3 / 4) < 5 * math.sqrt(3 / 16 / times)


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


@pytest.mark.parametrize(("clip_norm", "neighbors"), [(0.0, 0), (0.5, 0), (0.5, 2)])
def test_where_all_items_are_drawn_steps_are_those_of_the_full_softmax(clip_norm: float, neighbors: int) -> None:
    config = Config.of(
        embedding_dim=12, dropout=0.0, clip_norm=clip_norm, compute_dtype="float32", warmup_epochs=0, lr=1e-2,
        softmax="sampled", negative_samples=N_ITEMS, cooccurrence_negatives=neighbors,
    )  # fmt: skip
    model = MTAW(config, N_ITEMS).draw_weights(seed=3)
    plain = copy.deepcopy(model)
    sampled, full = SampledStepper(model, config, ring_sessions(50, 1)), Stepper(plain, config)
    for seed in range(6):
        batch = Batch.of(ring_sessions(20, seed=seed), 1, torch.device("cpu"))
        assert sampled.step(batch, 0.5) == pytest.approx(full.step(batch, 0.5), rel=1e-4)
    assert sampled.end_epoch() == pytest.approx(full.end_epoch(), rel=1e-4)
    for (name, got), (_, expected) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=2e-4, msg=name)  # of steps of 1e-2
    assert sampled.moments().keys() == full.moments().keys()


def test_neighbors_of_the_batch_s_items_are_always_in_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.of(embedding_dim=8, softmax="sampled", negative_samples=1, cooccurrence_negatives=40)
    stepper = SampledStepper(MTAW(config, N_ITEMS).draw_weights(seed=0), config, ring_sessions(4000, 2))
    sure_items: list[np.ndarray] = []
    drawn = CatalogSample.drawn

    def spy(sure: np.ndarray, *more: Any) -> CatalogSample:
        sure_items.append(sure)
        return drawn(sure, *more)

    monkeypatch.setattr(CatalogSample, "drawn", spy)
    batch = Batch.of(ring_sessions(2, 1), 1, torch.device("cpu"))
    stepper.step(batch, 0.5)
    batch_items = np.union1d(batch.clicks.numpy(), batch.targets.numpy())
    near = np.concatenate([batch_items, (batch_items + 1) % N_ITEMS, (batch_items - 1) % N_ITEMS])
    assert sure_items[0].tolist() == np.unique(near).tolist()


def test_it_learns_the_ring_and_resumes_to_the_same_bits(ring: Dataset, small: Config, tmp_path: Path) -> None:
    config = small.replace(softmax="sampled", negative_samples=8, cooccurrence_negatives=1)
    whole = train(ring, config, tmp_path / "whole")
    assert whole.metrics["P@20"] == 100
    assert whole.metrics["MRR@20"] > 80
    assert whole.model.config.loss.softmax == "sampled"
    with pytest.raises(KeyboardInterrupt):
        train(ring, config, tmp_path / "cut", reporter=StopsAt(1, "refit", 2))
    assert same(train(ring, config, tmp_path / "cut", resume=True).model, whole.model)
