"""A training step whose inputs and results all stay on the device, so that a CUDA graph can capture it.

Unlike `Stepper` it reads losses later, and draws dropout from a seed that comes with each batch. It runs operation by
operation on any device, or as CUDA graphs, one a budget: many small launches become one. The capture has not run on a
GPU yet; the tests run what is captured.

What a replay relies on:

- Every address stays. Batch, weights, moments, learning rate and losses are tensors that live as long as the stepper;
  `load_moments` and a model's `load_state_dict` copy into them.
- All graphs share one memory pool for intermediate results. They run one after the other on one stream, and nothing in
  the pool is read after its replay.
- No shape and no launch depends on the data: a budget fixes them all. Nothing in the step waits for the device or reads
  from it (`tests/kernels/on_triton`: "a step reads nothing back").
- Numbers passed by value are those of the capture: scale, gamma, dropout's probabilities, Adam's constants. What
  changes from step to step (batch, tile plan, dropout seed, learning rate) is read from tensors. torch's own generators
  are not used.
- Warm-ups before the capture compile kernels and allocate workspaces. Another thread may make batches and pin memory
  meanwhile and during the capture, which watches its own thread alone.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from mtaw_fast.config import Config
from mtaw_fast.errors import UnsupportedError
from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.scatter import add_rows
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.adam_state import AdamState
from mtaw_fast.training.steps.batch import Batch
from mtaw_fast.training.steps.full_step import AHEAD, compute_dtype, encoder_dtype, learning_rate
from mtaw_fast.training.steps.static_batch import Budget, StagedBatch, StaticBatch, StaticInputs

_READ_EVERY = 32  # steps between readings of the device's losses, which wait for the device
_SEEDS = 1 << 62  # a step's dropout seed is below; torch's generator on the host draws it
_WARM_UPS = 3  # runs before a capture: compilation, workspaces, cuBLAS's choice of algorithms


class StaticStep:
    """Owns a model's Adam state and takes steps, most without waiting for the device.

    adam_backend: the backend of `adam_step`. captures: on a GPU, capture the work at the first batch of a budget and
    replay it from then on. If a capture fails, train_step='auto' continues operation by operation, with one warning;
    'cuda-graph' raises UnsupportedError.
    """

    input_device = torch.device("cpu")

    def __init__(self, model: MTAW, config: Config, adam_backend: str = "auto", captures: bool = False) -> None:
        self.model, self._config = model, config
        self._device = model.item_embedding.device
        on_gpu = self._device.type == "cuda"
        self.ahead = AHEAD if on_gpu else 0
        self._dtype = compute_dtype(config, self._device)
        self._encoder_dtype = encoder_dtype(config, model.item_embedding)
        self._adam = AdamState(model, config, backend=adam_backend)
        self.moments, self.load_moments = self._adam.moments, self._adam.load_moments
        self._losses = LossAccumulator(self._device)
        self._batches: dict[Budget, StaticBatch] = {}
        self._steps, self._mass = 0, 0.0
        self._latest = float("nan")
        self.failed_step: int | None = None
        self._captures = captures and on_gpu
        self._graphs: dict[Budget, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # of the first graph

    def stage(self, batch: Batch) -> StagedBatch:
        """Pad a batch in host memory for `step`; may be called from another thread, see `ahead`."""
        budget = Budget.for_batch(batch, self._config.optimizer.batch_prefixes)
        static = self._batches.get(budget)
        if static is None:
            static = self._batches[budget] = StaticBatch(budget, self._device)
        return static.stage(batch)

    def step(self, batch: Batch | StagedBatch, progress: float) -> float:
        """Take one step; returns the mean loss of the latest step that has been read, or the first non-finite one.

        batch: in host memory, from `stage` or not. The loss of the first step of an epoch is read, later ones now and
        then. A non-finite loss leaves the weights unchanged, and so do all steps after it.
        """
        staged = self.stage(batch) if isinstance(batch, Batch) else batch
        staged.load(int(torch.randint(_SEEDS, ())))
        self._adam.rate.fill_(learning_rate(self._config, progress))
        self._run(staged.static)
        self._steps += 1
        self._mass += staged.mass
        if self._steps == 1 or self._steps % _READ_EVERY == 0:
            _, self._latest, self.failed_step = self._losses.read()
        return self._latest

    def end_epoch(self) -> float:
        """Wait for all steps since the last call; returns their mean loss over samples (non-finite: see step)."""
        total, loss, self.failed_step = self._losses.read()
        mean = total / (self._mass or 1.0) if self.failed_step is None else loss
        self._losses.reset()
        self._steps, self._mass = 0, 0.0
        return mean

    def _run(self, static: StaticBatch) -> None:
        """Take the step on what the buffers hold."""
        if static.budget not in self._graphs and self._captures:
            self._try_to_capture(static)
        if static.budget in self._graphs:
            self._graphs[static.budget].replay()
        else:
            self._work(static.inputs)

    def _try_to_capture(self, static: StaticBatch) -> None:
        """Capture the work on these buffers; weights, moments and losses stay as they are."""
        suspended = self._losses.suspend()  # neither warm-ups nor a failed capture may change the weights
        try:
            self._graphs[static.budget] = self._capture(static)
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if self._config.optimizer.train_step == "cuda-graph":
                raise UnsupportedError(
                    f"setting train_step=cuda-graph does not work: the capture failed ({reason}); choose auto or eager"
                ) from error
            logging.getLogger("mtaw_fast").warning("training step: eager, since its capture failed (%s)", reason)
            self._captures = False
        finally:
            self._losses.resume(suspended)

    def _capture(self, static: StaticBatch) -> torch.cuda.CUDAGraph:
        with torch.cuda.device(self._device):
            graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            try:
                with torch.cuda.stream(side):
                    for _ in range(_WARM_UPS):
                        self._work(static.inputs)
            finally:  # after a failure the warm-ups before must not add to the losses
                torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self._work(static.inputs)
            self._pool = graph.pool()  # graphs never run at the same time, so they share memory
            return graph

    def _work(self, inputs: StaticInputs) -> None:
        config, items = self._config, self.model.item_embedding
        # The clicks' vectors are a separate leaf, as in `Stepper`: the loss's gradient is the only N x d array.
        clicked = items.detach()[inputs.clicks].requires_grad_()
        queries = self.model.interests(
            clicked, inputs.offsets, tiles=inputs.tiles, seed=inputs.seed, compute_dtype=self._encoder_dtype
        )[inputs.rows]
        loss = aw_loss(
            queries,
            items,
            inputs.targets,
            scale=config.model.scale,
            gamma=config.loss.gamma,
            weights=inputs.weights,
            negatives=config.loss.negative_term,
            compute_dtype=self._dtype,
            backend=config.loss.loss_backend,
        )
        d_items, d_clicked, *d_small = torch.autograd.grad(loss, [items, clicked, *self._adam.small])
        add_rows(d_items, inputs.clicks, d_clicked)
        self._losses.add(loss.detach(), inputs.mass)
        self._adam.update(d_items, d_small, self._losses.healthy)


class LossAccumulator:
    """Counts steps on the device; once a loss is not finite, `healthy` stays false until `reset`."""

    def __init__(self, device: torch.device) -> None:
        self.healthy = torch.ones((), dtype=torch.bool, device=device)
        self._values = torch.zeros(4, dtype=torch.float64, device=device)  # as `read` returns, -1 for None; steps
        self.reset()

    def reset(self) -> None:
        """Start again from no step."""
        self.healthy.fill_(True)
        self._values.zero_()
        self._values[2].fill_(-1)

    def add(self, loss: Tensor, mass: Tensor) -> None:
        """Add a step with the mean `loss` over samples of that `mass`, both on the device. A graph may capture it."""
        total, latest, failed, steps = self._values.unbind()
        was_healthy = self.healthy.clone()
        self.healthy.logical_and_(torch.isfinite(loss))
        value = loss.double()
        total.add_(torch.where(self.healthy, value * mass, 0.0).squeeze())
        latest.copy_(torch.where(was_healthy, value, latest))
        failed.copy_(torch.where(was_healthy & ~self.healthy, steps, failed))
        steps.add_(1)

    def suspend(self) -> tuple[Tensor, Tensor]:
        """Ignore steps, which then change nothing, until `resume`; returns its argument."""
        state = self.healthy.clone(), self._values.clone()
        self.healthy.fill_(False)
        return state

    def resume(self, before: tuple[Tensor, Tensor]) -> None:
        """Continue from before `suspend`."""
        self.healthy.copy_(before[0])
        self._values.copy_(before[1])

    def read(self) -> tuple[float, float, int | None]:
        """Wait for all steps so far; return the sum of the finite losses, each times its batch's mass, the latest loss
        or the first one that is not finite, and the number of the step with that one."""
        total, loss, failed, _ = self._values.tolist()
        return total, loss, None if failed < 0 else int(failed)
