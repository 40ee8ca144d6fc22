"""A peer that trains in a second in our own environment: the mean of the clicks' vectors against all vectors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench" / "peers" / "drivers"))

import driver
from job import Job, Samples


class Mean(torch.nn.Module):
    """Vectors of items, and of the padding; dropout, so that a resumed training needs the random state."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.items = torch.nn.Embedding(n_items + 1, 8, padding_idx=0)
        self.out = torch.nn.Linear(8, n_items)
        self.dropout = torch.nn.Dropout(0.2)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.out(self.dropout(self.items(ids).sum(1) / lengths[:, None]))


def build(job: Job) -> driver.Peer:
    """The model and how it is fed."""
    if job.settings.get("fails"):
        raise SystemExit("the tiny peer fails, as asked")
    model = Mean(job.n_items)

    def scores(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        torch.rand(())  # as S2-DHCN does: a look at the validation must not change the training
        ids, lengths, _ = samples.padded(rows)
        return model(ids, lengths)

    def step(samples: Samples, rows: np.ndarray) -> torch.Tensor:
        targets = torch.from_numpy(samples.targets[rows].astype(np.int64))
        return torch.nn.functional.cross_entropy(scores(samples, rows), targets)

    optimizer = torch.optim.Adam(model.parameters(), lr=job.settings["lr"])
    return driver.Peer(model, optimizer, job.settings["batch"], step, scores)


if __name__ == "__main__":
    driver.main(build)
