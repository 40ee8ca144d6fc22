"""The optimization step, compared with the same step in plain PyTorch."""

from __future__ import annotations

import copy

import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.adam_state import BETAS
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import Stepper
from tests.support.training.ring import N_ITEMS, ring_sessions


@pytest.mark.parametrize(("clip_norm", "negatives"), [(0.0, False), (1e-3, False), (0.0, True)])
def test_a_step_is_autograd_s_with_both_of_the_items_gradients(clip_norm: float, negatives: bool) -> None:
    """Items that are clicked, once or often, are targets, both or neither: all get the whole gradient."""
    config = Config.of(
        embedding_dim=12,
        dropout=0.0,
        clip_norm=clip_norm,
        compute_dtype="float32",
        warmup_epochs=0,
        lr=1e-2,
        negative_term=negatives,
    )
    model = MTAW(config, N_ITEMS + 5).draw_weights(seed=3)
    plain = copy.deepcopy(model)
    batch = Batch.of(ring_sessions(20, seed=4), 1, torch.device("cpu"))
    stepper = Stepper(model, config)
    value = stepper.step(batch, progress=0.0)

    queries = plain(batch.clicks, batch.offsets)[batch.rows]
    loss = aw_loss(
        queries, plain.item_embedding, batch.targets, scale=16, gamma=2, negatives=negatives, backend="reference"
    )
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    if clip_norm:
        torch.nn.utils.clip_grad_norm_(plain.parameters(), clip_norm)
    # Adam's first update forgets the gradient's size; its first moments, a tenth of the clipped gradient, do not.
    moments = stepper.moments()
    for name, expected in plain.named_parameters():
        assert expected.grad is not None
        got = moments[f"exp_avg.{name}"] / (1 - BETAS[0])
        torch.testing.assert_close(got, expected.grad, rtol=1e-3, atol=1e-6 if clip_norm == 0 else 1e-9, msg=name)
    assert not torch.equal(model.item_embedding, plain.item_embedding)


def test_a_loss_that_is_not_finite_leaves_the_weights_alone() -> None:
    config = Config.of(embedding_dim=8)
    model = MTAW(config, N_ITEMS).draw_weights(seed=0)
    with torch.no_grad():
        model.item_embedding[7] = float("nan")
    before = copy.deepcopy(model.state_dict())
    value = Stepper(model, config).step(Batch.of(ring_sessions(9, seed=1), 1, torch.device("cpu")), progress=1.0)
    assert value != value
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


def test_a_step_has_the_same_bits_on_several_threads() -> None:
    """Of many clicks on the same items: sums over them must not depend on which thread is faster."""
    config = Config.of(embedding_dim=32, dropout=0.0, compute_dtype="float32", warmup_epochs=0)
    batch = Batch.of(ring_sessions(600, seed=4), 1, torch.device("cpu"))
    assert len(batch.clicks) * config.model.embedding_dim > 1 << 15  # what torch takes several threads for
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        models = [MTAW(config, N_ITEMS).draw_weights(seed=3) for _ in range(4)]
        for model in models:
            stepper = Stepper(model, config)
            for _ in range(3):
                stepper.step(batch, progress=1.0)
    finally:
        torch.set_num_threads(threads)
    for other in models[1:]:
        for (name, a), b in zip(models[0].named_parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b), name
