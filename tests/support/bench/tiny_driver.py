"""A peer that trains in a second in our own environment: the mean of the clicks' vectors against all vectors."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

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


class InThisProcess:
    """Stands for the module `subprocess`, for command lines of this driver: what they do, without a new process."""

    PIPE = subprocess.PIPE

    @staticmethod
    def run(line: Sequence[str], **_: Any) -> CompletedProcess[bytes]:
        """Run the driver's command line; its output is kept whether or not it was asked for."""
        threads, arguments, standard_output = torch.get_num_threads(), sys.argv, os.dup(1)
        with tempfile.TemporaryFile() as output:
            os.dup2(output.fileno(), 1)
            sys.argv = list(line[1:])
            try:
                driver.main(build)
            finally:
                sys.argv = arguments
                os.dup2(standard_output, 1)
                os.close(standard_output)
                torch.set_num_threads(threads)
            output.seek(0)
            return CompletedProcess(line, 0, output.read())

    @staticmethod
    @contextmanager
    def Popen(line: Sequence[str], **_: Any) -> Iterator[SimpleNamespace]:  # noqa: N802  # the name that is replaced
        """Run the command line to its end, and then let its output be read."""
        result = InThisProcess.run(line)
        with tempfile.TemporaryFile() as output:
            output.write(result.stdout)
            output.seek(0)
            yield SimpleNamespace(stdout=output, returncode=result.returncode)


if __name__ == "__main__":
    driver.main(build)
