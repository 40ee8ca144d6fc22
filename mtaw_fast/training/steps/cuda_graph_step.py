"""The static step as CUDA graphs, one a budget: many small launches become one.

Not run on a GPU yet: the tests run `StaticStep`, which is what is captured, on a CPU; the capture itself is untested.

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

from mtaw_fast.config import Config
from mtaw_fast.errors import UnsupportedError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.steps.static_batch import Budget, StaticBatch
from mtaw_fast.training.steps.static_step import StaticStep

_WARM_UPS = 3  # runs before a capture: compilation, workspaces, cuBLAS's choice of algorithms


class GraphStep(StaticStep):
    """A `StaticStep` that captures its work at the first batch of a budget and replays it from then on.

    If a capture fails, train_step='auto' continues operation by operation, with one warning; 'cuda-graph' raises
    UnsupportedError.
    """

    def __init__(self, model: MTAW, config: Config) -> None:
        super().__init__(model, config)
        self._graphs: dict[Budget, torch.cuda.CUDAGraph] = {}
        self._pool: Any = None  # of the first graph
        self._captures = True

    def _run(self, static: StaticBatch) -> None:
        graph = self._graphs.get(static.budget)
        if graph is None and self._captures:
            graph = self._try_to_capture(static)
        if graph is None:
            self._work(static.inputs)
        else:
            graph.replay()

    def _try_to_capture(self, static: StaticBatch) -> torch.cuda.CUDAGraph | None:
        """Capture the work on these buffers; weights, moments and losses stay as they are."""
        suspended = self._losses.suspend()  # neither warm-ups nor a failed capture may change the weights
        try:
            graph = self._graphs[static.budget] = self._capture(static)
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if self._config.optimizer.train_step == "cuda-graph":
                raise UnsupportedError(
                    f"setting train_step=cuda-graph does not work: the capture failed ({reason}); choose auto or eager"
                ) from error
            logging.getLogger("mtaw_fast").warning("training step: eager, since its capture failed (%s)", reason)
            self._captures = False
            return None
        finally:
            self._losses.resume(suspended)
        return graph

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
