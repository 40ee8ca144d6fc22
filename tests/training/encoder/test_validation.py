"""One pass over whole sessions gives the losses and ranks of all prefixes as separate sessions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.validation import validation_metrics
from mtaw_fast.training.steps.batch import Batch, sample_counts


def double_model(n_items: int, d: int = 12, recent: float = 0.0) -> MTAW:
    model = MTAW(Config.of(embedding_dim=d, max_positions=5, dropout=0.0, recent_weight=recent), n_items)
    return model.draw_weights(3).double()


def augmented_loss(model: MTAW, samples: Samples) -> torch.Tensor:
    """Every sample is a session of its own; only the query after its last click is used."""
    prefixes = samples.prefixes
    queries = model(torch.from_numpy(prefixes.items.astype(np.int64)), torch.from_numpy(prefixes.offsets))
    return aw_loss(
        queries[torch.from_numpy(prefixes.offsets[1:] - 1)],
        model.item_embedding,
        torch.from_numpy(samples.targets.astype(np.int64)),
        scale=16,
        gamma=2,
        backend="reference",
    )


@pytest.mark.parametrize("recent", [0.0, 2.0])
@pytest.mark.parametrize("min_prefix", [1, 2])
def test_loss_and_gradients_equal_those_of_the_augmented_batch(min_prefix: int, recent: float) -> None:
    rng = np.random.default_rng(5)
    sessions = Sessions.from_lists([rng.integers(0, 30, length) for length in (2, 9, 3, 25, 3)])
    model = double_model(30, recent=recent)
    batch = Batch.of(sessions, min_prefix, torch.device("cpu"))
    queries = model(batch.clicks, batch.offsets)[batch.rows]
    whole = aw_loss(queries, model.item_embedding, batch.targets, scale=16, gamma=2, backend="reference")
    whole_gradients = torch.autograd.grad(whole, list(model.parameters()))

    samples = Samples.from_sessions(sessions, min_prefix)
    augmented = augmented_loss(model, samples)
    gradients = torch.autograd.grad(augmented, list(model.parameters()))
    torch.testing.assert_close(whole, augmented, rtol=1e-12, atol=1e-12)
    for (name, _), a, b in zip(model.named_parameters(), whole_gradients, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("counted", ["all", "new"])
@pytest.mark.parametrize("min_prefix", [1, 2])
def test_sample_counts_are_the_rows_that_a_batch_makes(min_prefix: int, counted: str) -> None:
    rng = np.random.default_rng(2)
    sessions = Sessions.from_lists([rng.integers(0, 6, rng.integers(2, 12)) for _ in range(30)])
    counts = sample_counts(sessions, min_prefix, counted)
    samples = Samples.from_sessions(sessions, min_prefix)
    wanted = np.ones(len(samples), bool) if counted == "all" else ~samples.repeats()
    assert counts.tolist() == np.bincount(samples.session[wanted], minlength=30).tolist()
    batch = Batch.of(sessions, min_prefix, torch.device("cpu"), counted)
    assert batch.targets.tolist() == samples.targets[wanted].tolist()


def test_validation_metrics_equal_those_counted_sample_by_sample() -> None:
    rng = np.random.default_rng(7)
    lists = [rng.integers(0, 50, rng.integers(2, 15)) for _ in range(20)]
    sessions = Sessions.from_lists([[], lists[0], [], *lists[1:], []])
    model = double_model(50)
    samples = Samples.from_sessions(sessions, 2)
    ranks = []
    with torch.no_grad():
        catalog = torch.nn.functional.normalize(model.item_embedding, dim=1)
        for prefix, target in zip(samples.prefixes, samples.targets.tolist(), strict=True):
            clicks = torch.from_numpy(prefix.astype(np.int64))
            query = torch.nn.functional.normalize(model(clicks, torch.tensor([0, len(clicks)]))[-1], dim=0)
            scores = catalog @ query
            ranks.append(int((scores >= scores[target]).sum()))
    rank = np.array(ranks)
    got = validation_metrics(model, sessions, 2)
    for k in (10, 20):
        assert got[f"P@{k}"] == pytest.approx(100 * np.mean(rank <= k))
        assert got[f"MRR@{k}"] == pytest.approx(100 * np.mean(np.where(rank <= k, 1 / rank, 0)))


def test_equal_scores_and_nan_count_against_the_target() -> None:
    model = double_model(30)
    with torch.no_grad():
        model.item_embedding[:] = model.item_embedding[0]
    sessions = Sessions.from_lists([[1, 2, 3], [4, 5]])
    assert validation_metrics(model, sessions, 1)["P@20"] == 0
    with torch.no_grad():
        model.item_embedding[:] = torch.nan
    assert validation_metrics(model, sessions, 1)["P@20"] == 0
