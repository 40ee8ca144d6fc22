"""A group's optimization step: each process encodes its share and computes the loss over its rows of the catalog.

get the rows of the clicked items from their processes    exchange, at most T d numbers
encode own sessions, send the queries to all              gather, S d
compute two sums a query over own rows, add them up       gather, 2 S a process
compute the loss and its slopes, the same bits in all
keep the gradient of own rows, return that of queries     exchange, S d, added by rank
backpropagate; send gradients of items to their processes, those of the small weights to all
compute the norm of all gradients, update own weights with Adam
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mtaw_fast.config import Config
from mtaw_fast.kernels import triton_device
from mtaw_fast.kernels.aw_loss import catalog_sums, loss_of_sums
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.group.process_group import ProcessGroup, in_order
from mtaw_fast.training.group.shards import Shards, Share
from mtaw_fast.training.steps.adam_state import BETAS, CLIP_EPS, MOMENTS
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import AHEAD, EpochLoss, compute_dtype, encoder_dtype, learning_rate

_SEEDS = 1 << 62
_NORM_ROWS = 1 << 16  # of a gradient that are squared at once


class GroupStepper(EpochLoss):
    """Takes the steps of a `Stepper` on a model with this process's rows of the item table.

    The model has all of the small weights; they, their gradients and moments have the same bits in every process.
    """

    input_device = torch.device("cpu")

    def __init__(self, model: MTAW, config: Config, shards: Shards, process_group: ProcessGroup) -> None:
        super().__init__()
        self.model, self._config = model, config
        self.shards, self.process_group = shards, process_group
        self._device = model.item_embedding.device
        self.ahead = AHEAD if self._device.type == "cuda" else 0
        self._dtype = compute_dtype(config, self._device)
        self._encoder_dtype = encoder_dtype(config, model.item_embedding)
        self._optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config.optimizer.lr,
            betas=BETAS,
            weight_decay=config.optimizer.weight_decay,
            fused=True,
        )
        self._small = [parameter for parameter in model.parameters() if parameter is not model.item_embedding]
        # The fused kernels draw dropout from a seed. Elsewhere every process draws the masks of the whole batch, which
        # do not depend on the number of processes.
        self._from_seed = not triton_device.not_supported_reasons(model.item_embedding)
        if process_group.leads:
            logging.getLogger("mtaw_fast").info(
                "training step: a group of %d on %s, %d rows of the catalog here", process_group.world, self._device,
                len(model.item_embedding),
            )  # fmt: skip

    def stage(self, batch: Batch) -> Share:
        """Return this process's share of a batch; may be called from another thread."""
        return Share.of(batch, self.shards, self.process_group.rank, self._device)

    def step(self, batch: Share, progress: float) -> float:
        """See `Stepper.step`; the loss is that of the whole batch, the same in every process."""
        config, table, collectives = self._config, self.model.item_embedding, self.process_group.collectives
        clicked = look_up(batch, table.detach(), self.process_group).requires_grad_()
        own_queries = self._queries(clicked, batch)
        queries = collectives.gather(own_queries.detach(), batch.samples).requires_grad_()
        sums = catalog_sums(
            queries,
            table,
            batch.targets,
            scale=config.model.scale,
            first_item=self.shards.rows(self.process_group.rank).start,
            catalog_size=self.shards.n_items,
            compute_dtype=self._dtype,
            backend=config.loss.loss_backend,
        )
        totals = collectives.sum(torch.stack(sums).detach()).requires_grad_()
        others, cosines = totals
        losses = loss_of_sums(
            others, cosines, scale=config.model.scale, gamma=config.loss.gamma, backend=config.loss.loss_backend
        )
        loss = losses.mean() if batch.weights is None else (losses * batch.weights).mean()
        value = loss.item()
        if not self.is_finite(value):
            return value
        (slopes,) = torch.autograd.grad(loss, totals)
        d_queries, d_table = torch.autograd.grad(sums, (queries, table), tuple(slopes))
        n_own = batch.samples[self.process_group.rank]
        parts = collectives.exchange(d_queries, batch.samples, [n_own] * self.process_group.world)
        d_own = in_order(parts.view(self.process_group.world, n_own, config.model.embedding_dim))
        self._back_to_rows(d_table, self._through_encoder(own_queries, clicked, d_own), batch)
        table.grad = d_table
        self._clip()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)
        self._optimizer.step()
        self.model.limit_recent()
        self._optimizer.zero_grad(set_to_none=True)
        self.add(value, batch.mass)
        return value

    def moments(self) -> dict[str, Tensor]:
        """Return Adam's state of this process's weights, after at least one step, under '<moment>.<weight>'."""
        return {
            f"{moment}.{name}": self._optimizer.state[parameter][moment]
            for name, parameter in self.model.named_parameters()
            for moment in MOMENTS
        }

    def load_moments(self, state: Mapping[str, np.ndarray]) -> None:
        """Load what `moments` returns; KeyError if the state is of another model."""
        for name, parameter in self.model.named_parameters():
            self._optimizer.state[parameter] = {
                moment: torch.from_numpy(np.array(state[f"{moment}.{name}"])).to(self._device) for moment in MOMENTS
            }

    def _queries(self, clicked: Tensor, batch: Share) -> Tensor:
        """The own samples' queries float[S_own, d]; draws the same numbers in every process."""
        probability = self._config.model.dropout
        masks = seed = None
        if self._from_seed:
            drawn = int(torch.randint(_SEEDS, ())) + self.process_group.rank  # a mask of its own for every process
            seed = torch.full((1,), drawn, dtype=torch.int64, device=self._device)
        elif probability > 0:
            own_clicks = slice(batch.first_click, batch.first_click + len(clicked))
            masks = self._mask(batch, own_clicks, probability), self._mask(batch, own_clicks, probability)
        if len(clicked) == 0:
            return clicked
        interests = self.model.interests(
            clicked, batch.offsets, tiles=batch.tiles, seed=seed, compute_dtype=self._encoder_dtype, masks=masks
        )
        return interests[batch.rows]

    def _mask(self, batch: Share, own_clicks: slice, probability: float) -> Tensor:
        """Draw dropout's factors for the whole batch; return those of this process's clicks."""
        mask = functional.dropout(torch.ones(batch.clicks, self._config.model.embedding_dim), probability)
        return mask[own_clicks].to(self._device)

    def _through_encoder(self, own_queries: Tensor, clicked: Tensor, d_own: Tensor) -> Tensor:
        """Give the small weights the gradient of the whole batch; return the gradient by this process's clicks."""
        if len(clicked):
            d_clicked, *gradients = torch.autograd.grad(own_queries, [clicked, *self._small], d_own)
        else:
            d_clicked, gradients = clicked.detach(), [torch.zeros_like(weights) for weights in self._small]
        flat = self.process_group.collectives.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for weights, part in zip(self._small, flat.split([tensor.numel() for tensor in self._small]), strict=True):
            weights.grad = part.view(weights.shape)
        return d_clicked

    def _back_to_rows(self, d_table: Tensor, d_clicked: Tensor, batch: Share) -> None:
        """Add the gradients of clicks to those of their rows, wherever these are: by click, then by rank."""
        by_item = add_rows(d_clicked.new_zeros(sum(batch.needed), d_clicked.shape[1]), batch.item_rows, d_clicked)
        received = self.process_group.collectives.exchange(by_item, batch.needed, batch.requested_by)
        add_rows(d_table, batch.requested, received)

    def _clip(self) -> None:
        """Scale every gradient by the norm of all, as `torch.nn.utils.clip_grad_norm_` does."""
        if self._config.optimizer.clip_norm == 0:
            return
        table = self.model.item_embedding.grad
        assert table is not None
        total = self.process_group.collectives.sum(_square_sum(table))
        for weights in self._small:
            assert weights.grad is not None
            total = total + _square_sum(weights.grad)
        factor = (self._config.optimizer.clip_norm / (total.sqrt() + CLIP_EPS)).clamp_max(1.0)
        for weights in self.model.parameters():
            assert weights.grad is not None
            weights.grad.mul_(factor.to(weights.grad.dtype))


def look_up(batch: Share, table: Tensor, process_group: ProcessGroup) -> Tensor:
    """Return the rows of the own clicks' items, float[T_own, d], from the processes that have them."""
    rows = process_group.collectives.exchange(table[batch.requested], batch.requested_by, batch.needed)
    return rows[batch.item_rows]


def _square_sum(gradient: Tensor) -> Tensor:
    """float64[]: the sum of squares, in chunks of rows."""
    total = torch.zeros((), dtype=torch.float64, device=gradient.device)
    for rows in gradient.split(_NORM_ROWS):
        total += torch.linalg.vector_norm(rows).double() ** 2
    return total
