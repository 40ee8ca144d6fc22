"""Trains S2-DHCN by its authors' model class, unmodified: `driver.py` says how it is called.

The job's "source" is a checkout of https://github.com/xiaxin1998/DHCN. Its `Data` makes the hypergraph from the
training prefixes, and its `forward` runs the batches. The authors' code names CUDA tensors and sums tensors by numpy;
both get a replacement here, so that the files stay unchanged.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import driver
import numpy as np
import torch
from job import Job, Samples


def build(job: Job) -> driver.Peer:
    """Build the model, its optimizer, and their inputs."""
    settings = job.settings
    sys.path.insert(0, settings["source"])
    if not torch.cuda.is_available():
        torch.cuda.FloatTensor = zeros
    import model as authors
    import util

    authors.np = NumpyThatSumsTensors()
    samples = job.train_samples()
    all_data = data_of(util, samples, np.arange(len(samples)), job.n_items)
    model = authors.DHCN(
        adjacency=all_data.adjacency, n_node=job.n_items, lr=settings["lr"], l2=settings["l2"], beta=settings["beta"],
        layers=settings["layers"], emb_size=100, batch_size=settings["batch"], dataset=settings["dataset"],
    )  # fmt: skip

    def run(samples: Samples, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (targets, scores, contrastive loss) of one batch, filled by repeating rows."""
        filled = np.resize(rows, settings["batch"])
        data = SimpleNamespace(raw=rows_of(samples, filled), targets=samples.targets[filled] + 1)
        data.get_slice = lambda index: util.Data.get_slice(data, index)
        data.get_overlap = lambda sessions: util.Data.get_overlap(data, sessions)
        return authors.forward(model, np.arange(len(filled)), data)

    def step(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        targets, scores, contrast = run(samples, rows)
        return model.loss_function(scores + 1e-8, targets) + contrast

    def scores(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        return in_batches(lambda part: run(samples, part)[1][: len(part)], rows, settings["batch"])

    return driver.Peer(model, model.optimizer, settings["batch"], step, scores, scored=settings["batch"])


def in_batches(scores: Callable[[np.ndarray], torch.Tensor], rows: np.ndarray, batch: int) -> torch.Tensor:
    """Return the scores of any number of rows by a model that takes `batch` at a time."""
    return torch.cat([scores(rows[begin : begin + batch]) for begin in range(0, len(rows), batch)])


def zeros(*shape: Any) -> torch.Tensor:
    """Replace torch.cuda.FloatTensor on a machine without a GPU."""
    return torch.zeros(*shape)


def rows_of(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Return the clicks of some rows, a list each, in an array of objects as the authors' numpy made of them."""
    lists = np.empty(len(rows), object)
    lists[:] = samples.lists(rows)
    return lists


def data_of(util: Any, samples: Samples, rows: np.ndarray, n_items: int) -> Any:
    """Return the authors' `Data`, whose adjacency is that of the hypergraph."""
    return util.Data((rows_of(samples, rows), samples.targets[rows] + 1), shuffle=False, n_node=n_items)


class NumpyThatSumsTensors:
    """numpy with a `sum` that takes a list of tensors, which today's numpy refuses."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def sum(self, values: Any, axis: int) -> Any:
        """Return the sum along `axis`, 0 for a list of tensors."""
        if isinstance(values, list) and isinstance(values[0], torch.Tensor):
            return sum(values[1:], values[0])
        return np.sum(values, axis)


if __name__ == "__main__":
    driver.main(build)
