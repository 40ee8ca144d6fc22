"""The static step as CUDA graphs, one a budget: a launch-bound step becomes one launch.

Not run on a GPU yet: what is captured is `StaticStep`, which the tests run on a CPU; the capture itself is untested.
"""

from __future__ import annotations

import torch

from mtaw_fast.config import Config
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.static_batch import Budget, StaticBatch
from mtaw_fast.training.static_step import StaticStep

_WARM_UPS = 3  # runs before a capture: compilation, workspaces, cuBLAS's choice of algorithms


class GraphStep(StaticStep):
    """A `StaticStep` that captures its work at the first batch of a budget and replays it from then on.

    What changes from step to step (batch, tile plan, dropout seed, learning rate) lies in tensors that the captured
    work reads.
    """

    def __init__(self, model: MTAW, config: Config) -> None:
        super().__init__(model, config)
        self._graphs: dict[Budget, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()  # graphs never run at once, so they share their memory

    def _run(self, static: StaticBatch) -> None:
        graph = self._graphs.get(static.budget)
        if graph is None:
            graph = self._graphs[static.budget] = self._capture(static)
        graph.replay()

    def _capture(self, static: StaticBatch) -> torch.cuda.CUDAGraph:
        """Capture the work on these buffers; weights, moments and tally are as before after it."""
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(self._device)
        tally = self._tally.suspend()  # warm-ups must not move the weights
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._work(static.inputs)
        torch.cuda.current_stream(self._device).wait_stream(side)
        with torch.cuda.graph(graph, pool=self._pool):
            self._work(static.inputs)
        self._tally.resume(tally)
        return graph
