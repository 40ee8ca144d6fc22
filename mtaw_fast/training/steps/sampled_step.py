"""The optimization step over a sample of the catalog. Its cost does not depend on the number of items."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UnsupportedError
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.adam_state import BETAS, CLIP_EPS, MOMENTS
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import EpochLoss, compute_dtype, learning_rate
from mtaw_fast.training.steps.negative_sampling import CatalogSample, Occurrences
from mtaw_fast.training.steps.row_adam import RowAdam
from mtaw_fast.training.steps.sampled_loss import sampled_aw_loss
from mtaw_fast.training.threads import current_threads

_ITEMS = "item_embedding"


class SampledStepper(EpochLoss):
    """Takes steps with the softmax over a sample of the catalog (`training.steps.sampled_loss`).

    Always in the sample are the items of the batch and, since a query confuses its target with items that are clicked
    near it, the items next to `cooccurrence_negatives` drawn clicks on each of them, anywhere in `sessions`. To these
    come `negative_samples` drawn items.

    The item embedding is current after `end_epoch`; in between, rows lag behind (`training.steps.row_adam`). All draws
    depend on torch's generator alone, as dropout does, so a resumed run draws the same. Raises UnsupportedError on a
    GPU, where the full softmax never stores the logits and is fast.
    """

    ahead = 0
    input_device = torch.device("cpu")

    def __init__(self, model: MTAW, config: Config, sessions: Sessions) -> None:
        if model.item_embedding.device.type != "cpu":
            raise UnsupportedError(
                f"setting softmax=sampled works on the CPU, not on {model.item_embedding.device}; train with "
                "--device cpu, or start over with softmax=full, whose GPU kernels never store the logits"
            )
        super().__init__()
        self.model, self._config = model, config
        self._near = Occurrences(sessions, len(model.item_embedding)) if config.loss.cooccurrence_negatives else None
        self._dtype = compute_dtype(config, self.input_device)
        self._threads = current_threads().pieces
        self._rows = RowAdam(model.item_embedding.detach(), BETAS, config.optimizer.weight_decay)
        self._others = {name: value for name, value in model.named_parameters() if name != _ITEMS}
        self.optimizer = torch.optim.AdamW(
            self._others.values(),
            lr=config.optimizer.lr,
            betas=BETAS,
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )

    def step(self, batch: Batch, progress: float) -> float:
        """See `full_step.Stepper.step`; the loss is that of the sample."""
        config = self._config
        own_items, item_rows = np.unique(
            np.concatenate([batch.clicks.numpy(), batch.targets.numpy()]), return_inverse=True
        )
        rng = np.random.default_rng(int(torch.randint(2**62, (1,))))
        always = own_items
        if self._near is not None:
            always = np.union1d(own_items, self._near.neighbors(own_items, config.loss.cooccurrence_negatives, rng))
            item_rows = np.searchsorted(always, own_items)[item_rows]
        sample = CatalogSample.drawn(always, len(self.model.item_embedding), config.loss.negative_samples, rng)
        rows = torch.from_numpy(sample.rows)
        taken = self._rows.take(rows)
        items = taken[0].clone().requires_grad_()
        clicks, targets = torch.from_numpy(item_rows).split([len(batch.clicks), len(batch.targets)])
        clicked = items.detach()[clicks].requires_grad_()
        queries = self.model.interests(clicked, batch.offsets, tiles=batch.tiles)[batch.rows]
        loss = sampled_aw_loss(
            queries, items, targets, sample, scale=config.model.scale, gamma=config.loss.gamma, weights=batch.weights,
            compute_dtype=self._dtype, threads=self._threads,
        )  # fmt: skip
        value = loss.item()
        if not self.is_finite(value):
            return value
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        assert items.grad is not None
        assert clicked.grad is not None
        gradient = add_rows(items.grad, clicks, clicked.grad)
        self._clip(gradient)
        lr = learning_rate(config, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self._rows.step(rows, taken, gradient, lr)
        self.model.limit_recent()
        self.add(value, batch.mass)
        return value

    def end_epoch(self) -> float:
        """See `EpochLoss.end_epoch`; makes every row of the item embedding current."""
        self._rows.catch_up()
        return super().end_epoch()

    def moments(self) -> dict[str, Tensor]:
        """See `AdamState.moments`; current after `end_epoch`."""
        moments = {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self._others.items()
            for moment in MOMENTS
        }
        of_items = (self._rows.mean, self._rows.square, torch.tensor(float(self._rows.steps)))
        return moments | {f"{moment}.{_ITEMS}": value for moment, value in zip(MOMENTS, of_items, strict=True)}

    def load_moments(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what `moments` returns; KeyError if the state is of another model."""
        for name, parameter in self._others.items():
            self.optimizer.state[parameter] = {
                moment: torch.from_numpy(np.array(state[f"{moment}.{name}"])) for moment in MOMENTS
            }
        mean, square, steps = (np.array(state[f"{moment}.{_ITEMS}"]) for moment in MOMENTS)
        self._rows.load(torch.from_numpy(mean), torch.from_numpy(square), int(steps))

    def _clip(self, gradient: Tensor) -> None:
        """Scale all gradients, including those of the rows, to a common norm of at most clip_norm."""
        if self._config.optimizer.clip_norm == 0:
            return
        others = [value.grad for value in self._others.values() if value.grad is not None]
        norm = torch.stack([part.norm() for part in (gradient, *others)]).norm()
        factor = (self._config.optimizer.clip_norm / (norm + CLIP_EPS)).clamp_max(1.0)
        for part in (gradient, *others):
            part.mul_(factor)
