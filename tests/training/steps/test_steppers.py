"""Which stepper a training gets; its step, compared with plain PyTorch; the limits of every stepper."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.model.parameters import FARTHEST, RATE, recent_of
from mtaw_fast.training.steps.adam_state import BETAS
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import AnyStepper, Stepper
from mtaw_fast.training.steps.sampled_step import SampledStepper
from mtaw_fast.training.steps.static_step import StaticStep
from tests.support.training.group_threads import in_threads, shard_stepper
from tests.support.training.ring import N_ITEMS, ring_sessions
from tests.support.training.steps import CPU, batches, new_model, still_config


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
    batch = Batch.of(ring_sessions(20, seed=4), 1, CPU)
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


def test_a_step_has_the_same_bits_on_several_threads() -> None:
    """Of many clicks on the same items: sums over them must not depend on which thread is faster."""
    config = Config.of(embedding_dim=32, dropout=0.0, compute_dtype="float32", warmup_epochs=0)
    batch = Batch.of(ring_sessions(600, seed=4), 1, CPU)
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


MAKERS: dict[str, Callable[[MTAW, Config], AnyStepper]] = {
    "full": Stepper,
    "static": lambda model, config: StaticStep(model, config, "reference"),
    "sampled": lambda model, config: SampledStepper(model, config, ring_sessions(50, 1)),
}


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_a_loss_that_is_not_finite_leaves_the_weights_alone(kind: str) -> None:
    config = Config.of(embedding_dim=8, negative_samples=10)
    model = MTAW(config, N_ITEMS).draw_weights(seed=0)
    with torch.no_grad():
        model.item_embedding[7] = float("nan")
    before, stepper = copy.deepcopy(model.state_dict()), MAKERS[kind](model, config)
    value = stepper.step(Batch.of(ring_sessions(60, seed=1), 1, CPU), 1.0)
    assert value != value
    assert stepper.failed_step == 0
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("kind", [*MAKERS, "group"])
def test_a_step_of_any_length_leaves_recent_in_the_range_of_a_bundle(kind: str) -> None:
    config = still_config(recent_weight=2.0, lr=5.0)

    def recent(stepper: AnyStepper) -> torch.Tensor:
        stepper.step(stepper.stage(batches(config)[0]), 1.0)
        return stepper.model.recent.detach()

    model = new_model(config)
    if kind == "group":
        ends = in_threads(2, lambda group: recent(shard_stepper(config, model, group)))
    else:
        ends = [recent(MAKERS[kind](model, config))]
    for values in ends:
        assert values.abs().max().item() == pytest.approx(FARTHEST / RATE)
        recent_of({"recent": values.numpy()})  # raises ValueError out of range


def test_the_stepper_is_chosen_by_device_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    config, sessions = still_config(), Sessions.from_lists([[1, 2]])
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        assert isinstance(make_stepper(MTAW(config, 9), config, sessions), Stepper)
    assert "training step: eager (the model is on cpu, and CUDA graphs need a GPU)" in caplog.text
    assert isinstance(make_stepper(MTAW(config, 9), config.replace(train_step="eager"), sessions), Stepper)
    graph, sampled = config.replace(train_step="cuda-graph"), config.replace(softmax="sampled")
    for device, refused, kind, message in (
        ("cpu", graph, UsageError, "train_step=cuda-graph does not work: the model is on cpu.*choose auto or eager"),
        ("cpu", graph.replace(softmax="sampled"), UsageError, "does not work with softmax=sampled; choose auto or"),
        ("meta", sampled, UnsupportedError, "softmax=sampled works on the CPU.*softmax=full"),
    ):
        with pytest.raises(kind, match=message):
            make_stepper(MTAW(refused, 9).to(device), refused, sessions)
