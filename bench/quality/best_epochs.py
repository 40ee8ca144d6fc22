"""The literature's protocol: read the test set after every epoch, and report each metric at its own best epoch.

It is a LEAK: the test set chooses what it then judges, once for every metric. Some published code does so by default,
and a comparison needs to know how much it explains. Nothing else in the project reads the test set like this, and
every table that shows such figures marks them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.harness.records import Entry, finish, log_read
from bench.quality import records
from bench.quality.records import Finalist, Folders
from bench.quality.reuse import chosen_by_validation, keep, model_of, work_folder
from bench.quality.runs import ProgressLines, samples_of
from mtaw_fast.config import Config
from mtaw_fast.config.former_names import to_former
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import report_of
from mtaw_fast.evaluation.metrics import METRICS
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.storage.files import folder_lock
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.encoder.fitting import Fitting
from mtaw_fast.training.encoder.runner import LocalRunner
from mtaw_fast.training.run_state import RunState
from mtaw_fast.training.threads import Threads, training_threads
from mtaw_fast.training.trained_model import served_ranks

LEAK = "each metric at its own best epoch on the test set, which was read after every epoch"
_PHASE = "refit"  # the training that a refit is: on all training sessions


def run_published(
    finalist: Finalist, base: Config, dataset: Dataset, folders: Folders, stop_after: int | None = None
) -> dict[str, Any]:
    """Train on all training sessions, read the test set after every epoch, and record each metric's best.

    base: the preset's settings. stop_after: epochs to run now; a later call continues from there. Recorded epochs are
    not run again, and the record is complete after every epoch. Raises UsageError if the record has other data or
    defaults.
    """
    entry = folders.entry(finalist.name)
    epochs = finalist.config.optimizer.epochs
    last_epoch = min(epochs, stop_after or epochs)
    record = records.load(entry, finalist, dataset.fingerprint)
    if record is not None and record.get("epochs", {}).get("run", 0) >= last_epoch:
        return record
    record = record or finalist.new_record(dataset.fingerprint, base)
    log_read(entry, record, f"after every epoch, up to epoch {last_epoch}: {LEAK}")
    folder = work_folder(finalist, folders)
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder / "run", UsageError), training_threads(Threads.of()):
        identity = {
            "config": to_former(finalist.config.settings()),
            "dataset": dataset.fingerprint,
            "protocol": finalist.protocol,
        }
        state = RunState(RunFolder(folder / "run"), identity, _PHASE)
        state.open(resume=True, overwrite=False)
        reader = _TestReader(finalist, dataset, folders, folder)
        fitting = Fitting(
            finalist.config,
            dataset.n_items,
            dataset.min_prefix,
            LocalRunner(torch.device("cpu")),
            state,
            _Recorder(entry, record, state),
        )
        fitting.fit(_PHASE, dataset.train, last_epoch, validate=reader)
    return entry.read()


class _TestReader:
    """Scores a model under training on the test samples, through the path that serves."""

    def __init__(self, finalist: Finalist, dataset: Dataset, folders: Folders, folder: Path) -> None:
        self._finalist, self._dataset, self._folders, self._folder = finalist, dataset, folders, folder
        self._samples = samples_of(dataset, finalist)
        self._epoch = len((RunFolder(folder / "run").load_state() or {}).get("history", ()))

    def __call__(self, model: MTAW) -> dict[str, Any]:
        self._epoch += 1
        weights = {name: value.detach().cpu().numpy() for name, value in model.named_parameters()}
        training = chosen_by_validation(self._finalist, self._dataset, self._folders)
        keep(weights, self._epoch, None if training is None else training["best_epoch"], self._folder)
        began = time.perf_counter()
        ranks = served_ranks(model_of(self._finalist, self._dataset, weights), self._samples)
        report = report_of(ranks, self._samples)
        seconds = time.perf_counter() - began
        return {**report.metrics, "test": {**report.as_dict(), "seconds": round(seconds, 2)}}


class _Recorder(ProgressLines):
    """Writes the record after every epoch."""

    def __init__(self, entry: Entry, record: Mapping[str, Any], state: RunState) -> None:
        self._entry, self._record, self._state = entry, record, state

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line, and replace the record."""
        super().epoch_ends(record)
        history = self._state["history"]
        measured = {**best_of(history), "training": {"seconds": round(self._state["seconds"], 1), "history": history}}
        measured["epochs"] = {"run": len(history), "asked": self._record["config"]["epochs"]}
        finish(self._entry, {**self._record, **measured})


def best_of(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each metric at its own best epoch, the earliest of equals, with its interval; parts as at P@20's best."""
    best = {}
    for name in METRICS:
        values = [line["test"][name] for line in history]
        best[name] = history[values.index(max(values))]
    parts = best["P@20"]["test"]
    return {
        "leak": LEAK,
        "metrics": {name: line["test"][name] for name, line in best.items()},
        "best_epochs": {name: line["epoch"] for name, line in best.items()},
        "intervals": {name: line["test"]["intervals"][name] for name, line in best.items()},
        **{name: parts[name] for name in ("repeat", "non_repeat", "samples", "sessions")},
    }
