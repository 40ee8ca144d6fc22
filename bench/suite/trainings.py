"""Quality along a training of other systems and of our presets, from the records of bench.peers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.records import costs, every_record
from bench.peers.table import epochs

_TITLES = {"tmall": "Tmall", "retailrocket": "RetailRocket"}
_OURS, _MARK = "ours-", " (ours)"


@dataclass(frozen=True, slots=True)
class Training:
    """A system on a data set: its P@20 on validation, in percent, after so many seconds of training."""

    dataset: str
    name: str
    seconds: tuple[float, ...]
    hits: tuple[float, ...]


def trainings_of(folder: Path, machine: str) -> list[Training]:
    """Return every training with a figure on a machine class, ours first. folder: holds `peers`, their records."""
    reached = {_key(record): record.get("validation", {}) for record in every_record(folder / "peers")}
    own = costs(folder / "peers").get(machine, [])
    found = [one for record in own if (one := _training(record, reached.get(_key(record), {}))) is not None]
    return sorted(found, key=lambda one: not one.name.endswith(_MARK))  # stable


def _key(record: Mapping[str, Any]) -> tuple[str, str]:
    return record["dataset"]["name"], record["system"]


def _training(record: Mapping[str, Any], reached: Mapping[str, Any]) -> Training | None:
    """Return the line of a cost record. reached: the system's validation figures, used if its epochs have none."""
    points = list(_points(record, reached))
    if not points:
        return None
    training, name = record["training"], record["dataset"]["name"]
    done, asked = training["epochs_done"], training["epochs_asked"]
    cut = "" if training["ended"] else f", {epochs(done)} of {asked} epochs"
    mark = _MARK if record["system"].startswith(_OURS) else ""
    seconds, hits = zip(*points, strict=True)
    return Training(_TITLES.get(name, name), f"{record['title']}{cut}{mark}", seconds, hits)


def _points(record: Mapping[str, Any], reached: Mapping[str, Any]) -> Iterator[tuple[float, float]]:
    """Yield (seconds, P@20) after each epoch; the end alone if no epoch has a figure."""
    training = record["training"]
    epochs = [one for one in training.get("history", []) if "P@20" in one]
    for one in epochs:
        yield one["cpu_seconds"], one["P@20"]
    best = training["best"]
    if not epochs and best is not None:
        hits = best.get("P@20", reached.get("P@20"))
        if hits is not None:
            yield best["cpu_seconds"], hits
