"""Trains GCE-GNN by its authors' model class, unmodified: `driver.py` says how it is called.

The job's "source" is a checkout of https://github.com/CCIIPLab/GCE-GNN. The global graph is made as its build_graph.py
does, from the training sessions alone; its `Data` and `forward` make and run the batches, each padded to its longest.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import driver
import numpy as np
import torch
from job import Job, Samples

NEIGHBORS, REACH = 12, 3
PADDING = 1  # what the authors' tables have in front: row 0


def build(job: Job) -> driver.Peer:
    """Build the model, its optimizer, and their inputs."""
    settings = job.settings
    sys.path.insert(0, settings["source"])
    import model as authors
    import utils

    options = SimpleNamespace(
        hiddenSize=100, batch_size=settings["batch"], activate="relu", n_sample=NEIGHBORS, alpha=0.2,
        lr=settings["lr"], l2=settings["l2"], lr_dc=settings["lr_dc"], lr_dc_step=settings["lr_dc_step"],
        n_iter=settings["n_iter"], dropout_gcn=settings["dropout_gcn"], dropout_local=settings["dropout_local"],
        dropout_global=settings["dropout_global"],
    )  # fmt: skip
    rows = job.n_items + PADDING
    neighbors, counts = global_graph(job.data["train_items"], job.data["train_offsets"], job.n_items)
    neighbors, counts = utils.handle_adj(neighbors, rows, NEIGHBORS, counts)
    model = authors.CombineGraph(options, rows, neighbors, counts)

    def batch_of(samples: Samples, chosen: np.ndarray) -> list[torch.Tensor]:
        data = utils.Data((samples.lists(chosen), (samples.targets[chosen] + 1).tolist()))
        return [torch.stack(column) for column in zip(*(data[row] for row in range(len(data))), strict=True)]

    def step(samples: Samples, chosen: np.ndarray) -> torch.Tensor:
        targets, scores = authors.forward(model, batch_of(samples, chosen))
        return model.loss_function(scores, targets.long() - 1)

    def scores(samples: Samples, chosen: np.ndarray) -> torch.Tensor:
        return authors.forward(model, batch_of(samples, chosen))[1]

    after_epoch = driver.decay(model.optimizer, settings)
    return driver.Peer(model, model.optimizer, settings["batch"], step, scores, after_epoch, scored=100)


def global_graph(items: np.ndarray, offsets: np.ndarray, n_items: int) -> tuple[list[list[int]], list[list[int]]]:
    """Return (neighbors, counts) of each item + 1: the 12 most frequent ones at most 3 clicks away, either way."""
    session = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order, pairs = [], []
    for distance in range(1, REACH + 1):
        first = np.flatnonzero(session[:-distance] == session[distance:])
        ahead = np.stack([items[first], items[first + distance]], axis=1)
        pairs += [ahead, ahead[:, ::-1]]
        # The authors meet pairs session by session, and in one by distance, position and direction.
        turn = session[first].astype(np.int64) * 4096 + distance * 1024 + 0
        order += [np.stack([turn, first, np.zeros_like(first)], 1), np.stack([turn, first, np.ones_like(first)], 1)]
    met, all_pairs = np.concatenate(order), np.concatenate(pairs).astype(np.int64)
    all_pairs = all_pairs[np.lexsort((met[:, 2], met[:, 1], met[:, 0]))]
    keys, begins, counts = np.unique(all_pairs[:, 0] * n_items + all_pairs[:, 1], return_index=True, return_counts=True)
    # Of equal counts the authors keep the pair that they met first.
    best = np.lexsort((begins, -counts, keys // n_items))
    owners = keys[best] // n_items
    ends = np.searchsorted(owners, np.arange(n_items + 1))
    neighbors: list[list[int]] = [[]]
    weights: list[list[int]] = [[]]
    for item in range(n_items):
        strongest = best[ends[item] : min(ends[item + 1], ends[item] + NEIGHBORS)]
        neighbors.append((keys[strongest] % n_items + PADDING).tolist())
        weights.append(counts[strongest].tolist())
    return neighbors, weights


if __name__ == "__main__":
    driver.main(build)
