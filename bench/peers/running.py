"""Training a system in its environment, and ranking its scores by our evaluation."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.records import Entry, finish, log_read
from bench.peers import records
from bench.peers.environments import DRIVERS, digest_of, python_of, source_of
from bench.peers.files import ranks_of_scores, read_state, score_blocks, validation_of, write_job
from bench.peers.knn import ItemKnn
from bench.peers.systems import System
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import DataError, MtawError
from mtaw_fast.evaluation import ranks_of, report_of
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.storage.files import folder_lock

VALIDATION = Config().optimizer.validation_fraction


@dataclass(frozen=True, slots=True)
class Folders:
    """Folders of records, trainings, virtual environments, and authors' code."""

    results: Path
    work: Path
    environments: Path
    checkouts: Path | None


@dataclass(frozen=True, slots=True)
class Driver:
    """A command with the interface of `drivers/driver.py`, for one job folder."""

    command: Sequence[str]
    folder: Path
    name: str

    @classmethod
    def of(cls, system: System, folder: Path, folders: Folders) -> Driver:
        """Return the system's driver in its environment."""
        python = sys.executable if system.environment is None else python_of(folders.environments, system.environment)
        return cls((str(python), str(DRIVERS / str(system.driver))), folder, system.name)

    def train(self, minutes: float) -> None:
        """Train for `minutes` more of processor time; MtawError if it fails."""
        self._check(subprocess.run(self._line("train", str(minutes)), env=_one_thread(), check=False).returncode)

    def ranks(self, split: str, samples: Samples, n_items: int) -> np.ndarray:
        """Return int32[S] ranks of the targets in the driver's scores."""
        with subprocess.Popen(self._line("score", split), env=_one_thread(), stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                blocks = score_blocks(process.stdout, len(samples), n_items, self.name)
                ranks = ranks_of_scores(blocks, samples.targets)
            except BaseException:
                process.kill()
                raise
        self._check(process.returncode)
        return ranks

    def _line(self, command: str, *options: str) -> list[str]:
        return [*self.command, command, str(self.folder), *options]

    def _check(self, code: int) -> None:
        if code:
            raise MtawError(f"{self.name}: its driver ended with {code}; see its message above")


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# By default glibc returns blocks of the size of a batch's logits to the system; kept, a step of GRU4Rec takes half.
_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}


def _one_thread() -> dict[str, str]:
    """Return the environment of a driver, ours or a peer's: one thread, no GPU."""
    return {**os.environ, **dict.fromkeys(_THREADS, "1"), **_KEPT, "CUDA_VISIBLE_DEVICES": ""}


# The fields of a record that belong to its best weights.
_MEASURED = (
    "validation", "metrics", "intervals", "repeat", "non_repeat", "samples", "sessions", "evaluation_seconds"
)  # fmt: skip


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that decide the weights after a number of steps: more epochs continue a training."""
    return {name: value for name, value in settings.items() if name not in ("epochs", "patience")}


def run(system: System, dataset: Dataset, folders: Folders, minutes: float, test: bool) -> dict[str, Any]:
    """Continue a system's training, and rank the test with its best weights if they are new; return its record.

    minutes: limit of processor time. test: whether the test set may be read now.
    """
    settings, source = system.settings_for(dataset.name)
    entry = records.entry_of(folders.results, dataset.name, system)
    existing = entry.found() or {"reads": []}
    if existing.get("dataset", {}).get("fingerprint", dataset.fingerprint) != dataset.fingerprint:
        raise DataError(f"{entry} was made from other data; move the line away")
    if _decisive(existing.get("settings", settings)) != _decisive(settings):
        existing = {"reads": existing["reads"]}
    record = {
        "kind": records.KIND, "schema": records.SCHEMA, "system": system.name, "title": system.title,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint}, "settings": settings, "source": source,
        "seed": settings["seed"], "refit": system.driver is None, "reads": existing["reads"],
    }  # fmt: skip
    folders.results.mkdir(parents=True, exist_ok=True)
    if system.driver is None:
        return existing if "metrics" in existing else _run_knn(dataset, record, entry)
    folder, job = folders.work / f"{dataset.name}-{system.name}", dict(settings)
    if folders.checkouts is not None and system.authors is not None:
        source_folder = source_of(system, folders.checkouts)
        job["source"] = str(source_folder.resolve())
        record["authors"] = {"repository": system.authors, "sha256": digest_of(source_folder)}
    folder.mkdir(parents=True, exist_ok=True)
    with folder_lock(folder, MtawError):
        write_job(folder, job, dataset, VALIDATION)
        driver = Driver.of(system, folder, folders)
        state = read_state(folder)
        # A training that ended continues if more epochs are asked for now.
        if minutes > 0 and not (state and state["ended"] and state["epochs_asked"] >= settings["epochs"]):
            driver.train(minutes)
        return _ranked(driver, dataset, record, existing, entry, test)


def _ranked(
    driver: Driver, dataset: Dataset, record: dict[str, Any], existing: dict[str, Any], entry: Entry, test: bool
) -> dict[str, Any]:
    """Put the training into the record, with figures of its best weights: the existing ones, or new ones if `test`."""
    state = read_state(driver.folder)
    if state is None or state["best"] is None:
        raise MtawError(f"{driver.name}: nothing was trained yet; give it --minutes")
    ranked = existing["training"] if "metrics" in existing else None
    if ranked is not None and ranked["step"] > state["step"]:
        recorded, trained = f"{ranked['step']:,}", f"{state['step']:,}"
        print(
            f"{driver.name}: its record has a training of {recorded} steps, this one has {trained}; the record stays",
            file=sys.stderr,
        )
        return existing
    training = {name: value for name, value in state.items() if name not in ("losses", "versions")}
    record["training"] = {**training, "epochs_done": round(state["step"] / state["steps_per_epoch"], 3)}
    record["versions"] = state["versions"]
    # Compare all of it: another training may have its best after the same number of steps.
    if ranked is not None and ranked["best"] == state["best"]:
        record |= {name: existing[name] for name in _MEASURED if name in existing}
    if test and "metrics" not in record:
        reason = f"the best of {record['training']['epochs_done']:g} epochs done, of {state['epochs_asked']} asked"
        log_read(entry, record, reason)
        record["reads"] = entry.read()["reads"]
        began = time.perf_counter()
        valid = validation_of(dataset, VALIDATION)[1]
        record["validation"] = means_of(gains_of(driver.ranks("valid", valid, dataset.n_items)))
        _measure(record, driver.ranks("test", dataset.test, dataset.n_items), dataset.test)
        record["evaluation_seconds"] = round(time.perf_counter() - began, 1)
    finish(entry, record)
    return entry.read()


def _run_knn(dataset: Dataset, record: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """Fit Item-KNN on all training sessions, as our presets are refit: it has nothing to choose on validation."""
    options = {name: record["settings"][name] for name in ("neighbors", "shrink", "alpha")}
    known, valid = validation_of(dataset, VALIDATION)
    record["validation"] = means_of(gains_of(ranks_of(ItemKnn.fit(known, dataset.n_items, **options), valid)))
    began = time.process_time()
    ranker = ItemKnn.fit(dataset.train, dataset.n_items, **options)
    seconds = round(time.process_time() - began, 2)
    record["training"] = {
        "cpu_seconds": seconds, "epochs_done": 1, "epochs_asked": 1, "ended": "epochs",
        "parameters": int((ranker.ids >= 0).sum()), "best": {"epoch": 1, "cpu_seconds": seconds},
    }  # fmt: skip
    log_read(entry, record, "fitted on all training sessions")
    _measure(record, ranks_of(ranker, dataset.test), dataset.test)
    finish(entry, record)
    return entry.read()


def _measure(record: dict[str, Any], ranks: np.ndarray, samples: Samples) -> None:
    """Write metrics and intervals into a record, with repeat and new targets apart."""
    report = report_of(ranks, samples)
    record["metrics"] = dict(report.metrics)
    record |= {name: value for name, value in report.as_dict().items() if "@" not in name}
