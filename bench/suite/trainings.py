"""What the records of bench.quality and bench.peers say of quality and of the time that it took."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers.records import every_record as peer_records
from bench.quality.records import every_record as quality_records

_TITLES = {"tmall": "Tmall", "retailrocket": "RetailRocket"}
_PRESETS = ("paper-literal", "paper", "full")


@dataclass(frozen=True, slots=True)
class Training:
    """A system on a data set: its P@20 on the test, in percent, and the seconds of its training."""

    dataset: str
    name: str
    seconds: float
    hits: float


def trainings_of(folder: Path) -> list[Training]:
    """Every system whose test was ranked, ours first. folder: of bench.quality's records, bench.peers' in `peers`."""
    return [*_presets(folder), *_peers(folder / "peers")]


def _presets(folder: Path) -> list[Training]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in quality_records(folder):
        own = record["preset"] in _PRESETS and record["split"] == "test" and set(record["changed"]) <= {"gamma"}
        if own and "published" not in record.get("protocol", ""):
            changes = (f"{name}={value:g}" for name, value in record["changed"].items())
            name = " ".join([record["preset"], *changes])
            groups.setdefault((record["dataset"]["name"], f"{name} (ours)"), []).append(record)
    return [
        Training(
            _TITLES.get(dataset, dataset),
            name,
            statistics.median(one["training"]["seconds"] for one in group),
            statistics.fmean(one["metrics"]["P@20"] for one in group),
        )
        for (dataset, name), group in sorted(groups.items(), reverse=True)
    ]


def _peers(folder: Path) -> list[Training]:
    found = []
    for record in peer_records(folder):
        if "metrics" in record:
            training, name = record["training"], record["dataset"]["name"]
            cut = "" if training["ended"] else f", {training['epochs_done']:.2g} of {training['epochs_asked']} epochs"
            found.append(
                Training(
                    _TITLES.get(name, name),
                    f"{record['title']}{cut}",
                    training["best"]["cpu_seconds"],
                    record["metrics"]["P@20"],
                )
            )
    return found
