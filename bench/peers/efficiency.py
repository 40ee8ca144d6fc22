"""What training and ranking cost: every system and our presets on one machine, one thread each, in processor time."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import records
from bench.peers.environments import why_not
from bench.peers.files import JOB
from bench.peers.running import Driver, Places
from bench.peers.systems import System
from mtaw_fast.config import PRESETS
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
    places: Places,
    minutes: float,
    rounds: int = ROUNDS,
) -> None:
    """Train our presets so far as the minutes go, then time every ranking in turns, and keep all in the records.

    folder: of the data set in our own form. systems: what is timed of those that were trained already. rounds: how
    often each has its turn.
    """
    timed = [one for system in systems if (one := _peer(system, dataset, folder, places)) is not None]
    for name in presets:
        if name not in PRESETS:
            print(f"skipped {name}: there is no such preset", file=sys.stderr)
        elif (one := _preset(name, dataset, folder, places, minutes)) is not None:
            timed.append(one)
    found: dict[Path, list[list[dict[str, Any]]]] = {}
    for number in range(rounds):
        for driver, path in timed:
            print(f"round {number + 1} of {rounds}: {dataset.name} {driver.name}", file=sys.stderr, flush=True)
            found.setdefault(path, []).append(driver.timed(BATCHES, _SECONDS))
    for path, turns_of in found.items():
        record = records.read_record(path)
        record["inference"] = {
            str(batch): {
                "us": round(statistics.median(one["us"] for one in turns), 2),
                "rounds": [round(one["us"], 2) for one in turns],
                "peak_mb": round(max(one["peak_mb"] for one in turns), 1),
            }
            for batch, turns in zip(BATCHES, zip(*turns_of, strict=True), strict=True)
        }
        records.finish(path, record)


def _peer(system: System, dataset: Dataset, data: Path, places: Places) -> tuple[Driver, Path] | None:
    """The driver of a system that was trained, and its record; None, and why is told, where it was not."""
    path = records.path_of(places.results, dataset.name, system)
    folder = places.work / f"{dataset.name}-{system.name}"
    reason = why_not(system, places.environments, places.checkouts)
    if reason is None and not path.exists():
        reason = f"it was not trained yet: python -m bench.peers --system {system.name}"
    elif reason is None and records.read_record(path)["settings"] != system.settings_for(dataset.name)[0]:
        reason = "it was trained by other settings; train it again"
    elif reason is None and system.driver is not None and not (folder / JOB).exists():
        reason = f"its training is not in {places.work}"
    if reason is not None:
        print(f"skipped {system.name}: {reason}", file=sys.stderr)
        return None
    if system.driver is None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "job.json", {**system.settings, "dataset": str(data.resolve())})
        return Driver(_OURS, folder, system.name), path
    return Driver.of(system, folder, places), path


def _preset(name: str, dataset: Dataset, data: Path, places: Places, minutes: float) -> tuple[Driver, Path] | None:
    """Train a preset; its driver and its record, None where its training has no end yet, and so no bundle."""
    changed = list(OURS.get(name, {}).get(dataset.name, ()))
    path = places.results / f"{dataset.name}-ours-{name}.json"
    before = records.read_record(path) if path.exists() else {}
    title = f"{name} {' '.join(changed)}".strip()
    if before and (before["title"], before["dataset"]["fingerprint"]) != (title, dataset.fingerprint):
        raise DataError(f"{path} was made from other data or by other settings; move it away")
    folder = places.work / f"{dataset.name}-ours-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    job = {"preset": name, "set": changed, "dataset": str(data.resolve()), "fingerprint": dataset.fingerprint}
    if (folder / "job.json").exists() and read_json(folder / "job.json", DataError) != job:
        raise UsageError(f"{folder} holds a training with other settings or data; move it away to train anew")
    write_json(folder / "job.json", job)
    driver = Driver(_OURS, folder, name)
    state = read_json(folder / "state.json", DataError) if (folder / "state.json").exists() else None
    if minutes > 0 and not (state and state["ended"]):
        driver.train(minutes)
        state = read_json(folder / "state.json", DataError)
    if state is None:
        state = before.get("training")
    if state is None:
        print(f"skipped {name}: it was not trained yet; give it --minutes", file=sys.stderr)
        return None
    record = {
        **before,
        "kind": records.KIND,
        "schema": records.SCHEMA,
        "system": f"ours-{name}",
        "title": title,
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "training": state,
    }
    places.results.mkdir(parents=True, exist_ok=True)
    records.finish(path, record)
    return (driver, path) if (folder / "bundle").exists() else None
