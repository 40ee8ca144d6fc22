"""The costs of training and ranking: every system and our presets on one machine, one thread, in processor time."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.machine import machine_class, machine_record
from bench.harness.records import Entry, finish
from bench.peers import records
from bench.peers.environments import why_not
from bench.peers.files import JOB, read_state
from bench.peers.running import Driver, Folders, decisive, fit_knn, job_of, training_of
from bench.peers.systems import System
from bench.quality.records import changed_settings
from mtaw_fast.config import PRESETS, Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.storage.files import read_json, write_json

BATCHES = (1, 512)
ROUNDS = 3
OURS: Mapping[str, Mapping[str, Sequence[str]]] = {  # preset -> data set -> settings, as in the paper
    "paper": {"retailrocket": ("gamma=6",)},
    "paper-literal": {"retailrocket": ("gamma=6",)},
    "full": {},
}
_SECONDS = 2.0  # of ranking, a batch and round
_OURS = (sys.executable, "-m", "bench.peers.ours")


def measure(
    dataset: Dataset,
    folder: Path,
    systems: Sequence[System],
    presets: Sequence[str],
    folders: Folders,
    minutes: float,
    rounds: int = ROUNDS,
) -> None:
    """Train what was not trained on this machine, up to `minutes` each, then time every ranking in turns.

    folder: where the data set is in our own form. systems, presets: what to time. A preset's training continues. A
    system's does not, and a system that was also trained on another machine class is left out. rounds: turns of each.
    Everything goes into the cost records of this machine.
    """
    timed = [peer for system in systems if (peer := _peer(system, dataset, folder, folders, minutes)) is not None]
    for name in presets:
        if name not in PRESETS:
            print(f"skipped {name}: there is no such preset", file=sys.stderr)
        elif (peer := _preset(name, dataset, folder, folders, minutes)) is not None:
            timed.append(peer)
    timings: dict[Entry, list[list[dict[str, Any]]]] = {}
    for number in range(rounds):
        for driver, entry in timed:
            print(f"round {number + 1} of {rounds}: {dataset.name} {driver.name}", file=sys.stderr, flush=True)
            timings.setdefault(entry, []).append(driver.timed(BATCHES, _SECONDS))
    for entry, turns_of in timings.items():
        record = entry.read()
        record["inference"] = {
            str(batch): {
                "us": round(statistics.median(turn["us"] for turn in turns), 2),
                "rounds": [round(turn["us"], 2) for turn in turns],
                "peak_mb": round(max(turn["peak_mb"] for turn in turns), 1),
            }
            for batch, turns in zip(BATCHES, zip(*turns_of, strict=True), strict=True)
        }
        finish(entry, record)


def _peer(
    system: System, dataset: Dataset, data: Path, folders: Folders, minutes: float
) -> tuple[Driver, Entry] | None:
    """Return the driver of a system and its record; None, with the reason on stderr, if it is absent or not trained."""
    reason = why_not(system, folders.environments, folders.checkouts)
    if reason is not None:
        print(f"skipped {system.name}: {reason}", file=sys.stderr)
        return None
    if system.driver is None:
        return _knn(system, dataset, data, folders)
    with job_of(system, dataset, folders) as driver:
        if _elsewhere(driver):
            return None
        if read_state(driver.folder) is None and minutes > 0:
            driver.train(minutes)
        state = read_state(driver.folder)
    if state is None or state["best"] is None:
        print(f"skipped {system.name}: it was not trained here yet; give it --minutes", file=sys.stderr)
        return None
    settings = decisive(system.settings_for(dataset.name)[0])
    return driver, _keep(folders, dataset, system.name, system.title, settings, training_of(state))


def _elsewhere(driver: Driver) -> bool:
    """Return whether a job was trained on another machine class, and say where: its seconds do not count here."""
    other_machines = set(driver.machines) - {machine_class(machine_record())}
    if other_machines:
        print(f"skipped {driver.name}: its training in {driver.folder} is also of {', '.join(sorted(other_machines))}; "
              "move it away to train it here", file=sys.stderr)  # fmt: skip
    return bool(other_machines)


def _knn(system: System, dataset: Dataset, data: Path, folders: Folders) -> tuple[Driver, Entry]:
    folder = folders.work / f"{dataset.name}-{system.name}"
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / JOB, {**system.settings, "dataset": str(data.resolve())})
    _, training = fit_knn(dataset, system.settings)
    entry = _keep(folders, dataset, system.name, system.title, system.settings, training)
    return Driver(_OURS, folder, system.name), entry


def _preset(name: str, dataset: Dataset, data: Path, folders: Folders, minutes: float) -> tuple[Driver, Entry] | None:
    """Train a preset; return its driver and its record, or None while its training has no bundle yet."""
    changed = list(OURS.get(name, {}).get(dataset.name, ()))
    folder = folders.work / f"{dataset.name}-ours-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    job = {"preset": name, "set": changed, "dataset": str(data.resolve()), "fingerprint": dataset.fingerprint}
    if (folder / JOB).exists() and read_json(folder / JOB, DataError) != job:
        raise UsageError(f"{folder} holds a training with other settings or data; move it away to retrain")
    write_json(folder / JOB, job)
    driver = Driver(_OURS, folder, name)
    if _elsewhere(driver):
        return None
    state = read_state(folder)
    if minutes > 0 and not (state and state["ended"]):
        driver.train(minutes)
        state = read_state(folder)
    if state is None:
        print(f"skipped {name}: it was not trained here yet; give it --minutes", file=sys.stderr)
        return None
    settings = changed_settings(preset(name).override(changed), Config())
    entry = _keep(folders, dataset, f"ours-{name}", f"{name} {' '.join(changed)}".strip(), settings, state)
    return (driver, entry) if (folder / "bundle").exists() else None


def _keep(
    folders: Folders,
    dataset: Dataset,
    system: str,
    title: str,
    settings: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Entry:
    """Write a training into the system's cost record on this machine; DataError if that has other data.

    The times of its rankings stay if the settings are the same: they do not depend on the length of the training.
    """
    entry = records.cost_entry_of(folders.results, dataset.name, system)
    existing = entry.found() or {}
    if existing and (existing["title"], existing["dataset"]["fingerprint"]) != (title, dataset.fingerprint):
        raise DataError(f"{entry} was made from other data or by other settings; move the line away")
    if existing.get("settings", settings) != settings:
        existing = {}
    record = {
        **existing,
        "kind": records.KIND,
        "schema": records.SCHEMA,
        "system": system,
        "title": title,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "settings": dict(settings),
        "training": dict(training),
    }
    finish(entry, record)
    return entry
