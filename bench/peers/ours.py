"""Our presets and Item-KNN, called like a peer's driver, so that their times are measured in the same way.

python -m bench.peers.ours train FOLDER MINUTES      a preset's search on validation; no refit
python -m bench.peers.ours time FOLDER BATCH[,BATCH] SECONDS
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.peers.files import JOB, STATE, read_state
from bench.peers.knn import ItemKnn, knn_options
from mtaw_fast.config import preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataError
from mtaw_fast.evaluation import Evaluated
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.files import read_json, write_json
from mtaw_fast.training import train
from mtaw_fast.training.reporting import Silent


class TimeIsOverError(Exception):
    """The minutes are over; the training can continue from its checkpoint."""


class Clock(Silent):
    """Counts processor seconds, epoch by epoch, over the runs of a training, and ends a run when its time is over.

    state: the content of the table, as a peer's driver writes it. A preset with a memory has figures only at its end.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self.folder = folder
        self.state = read_state(folder) or {
            "cpu_seconds": 0.0, "epoch_seconds": [], "epochs_done": 0, "history": [], "best": None, "ended": None,
            "peak_mb": 0.0,
        }  # fmt: skip
        self.counted = time.process_time()
        self.until = self.counted + 60 * minutes

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:  # noqa: ARG002
        """Record the start."""
        self.began = time.process_time()

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Write the state, and end the training if its time is over."""
        self.count()
        state = self.state
        if record["phase"] == "search":
            state["epoch_seconds"].append(round(time.process_time() - self.began, 1))
            state["epochs_done"] = record["epoch"]
            entry = {"epoch": record["epoch"], "cpu_seconds": round(state["cpu_seconds"], 1)}
            entry |= {name: value for name, value in record.items() if "@" in name}
            state["history"].append(entry)
            if "MRR@20" in entry and (state["best"] is None or entry["MRR@20"] > state["best"]["MRR@20"]):
                state["best"] = entry
        write_json(self.folder / STATE, state)
        if time.process_time() > self.until:
            raise TimeIsOverError

    def count(self) -> None:
        """Add the time since the last call."""
        now = time.process_time()
        self.state["cpu_seconds"] += now - self.counted
        self.counted = now
        self.state["peak_mb"] = max(self.state["peak_mb"], peak_mb())


def fit(folder: Path, minutes: float) -> None:
    """Continue training the job's preset, and write its bundle at the end."""
    job = read_json(folder / JOB, DataError)
    config = preset(job["preset"]).override(job["set"])
    dataset = Dataset.load(job["dataset"])
    clock = Clock(folder, minutes)
    clock.state["epochs_asked"] = config.optimizer.epochs
    try:
        trained = train(dataset, config, folder / "run", resume=True, refit=False, reporter=clock, threads=1)
    except TimeIsOverError:
        return
    clock.count()
    trained.save(folder / "bundle", dataset, overwrite=True)
    state = clock.state
    state["ended"] = "epochs"
    state["parameters"] = sum(int(value.size) for value in trained.model.weights.values())
    if config.memory.enabled:
        metrics = {name: value for name, value in trained.metrics.items() if "@" in name}
        state["best"] = {"epoch": trained.best_epoch, "cpu_seconds": round(state["cpu_seconds"], 1), **metrics}
    write_json(folder / STATE, state)


def timed(folder: Path, batches: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Time rankings of the 20 best items of test sessions, in processor time, as `drivers/driver.py` does."""
    job = read_json(folder / JOB, DataError)
    dataset = Dataset.load(job["dataset"])
    ranker: Evaluated
    if "preset" in job:
        ranker = Recommender.load(folder / "bundle")
    else:
        ranker = ItemKnn.fit(dataset.train, dataset.n_items, **knn_options(job))
    timings = []
    for batch in batches:
        generator = np.random.default_rng(0)
        times: list[float] = []
        while len(times) < 4 or sum(times) < seconds:  # the first call prepares more than it ranks
            sessions = dataset.test.prefixes.select(generator.integers(len(dataset.test), size=batch))
            began = time.process_time()
            ranker.rank(sessions, 20)
            times.append(time.process_time() - began)
        us = 1e6 * float(np.median(times[1:])) / batch
        timings.append({"batch": batch, "us": us, "calls": len(times) - 1, "peak_mb": peak_mb()})
    return timings


def peak_mb() -> float:
    """Return the peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run a command line of the form above."""
    import torch  # noqa: F401  # loaded before its threads are limited

    command, folder, *arguments = sys.argv[1:]
    with limit_threads(1):
        if command == "train":
            fit(Path(folder), float(arguments[0]))
        else:
            for timing in timed(Path(folder), [int(batch) for batch in arguments[0].split(",")], float(arguments[1])):
                print(json.dumps(timing))


if __name__ == "__main__":
    main()
