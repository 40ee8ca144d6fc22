"""Records of a system on a data set: one JSON file with its figures, and one with its costs on a machine class.

    <data set>-<system>.json                            its settings, its training and its figures
    cost/<machine class>/<data set>-<system>.json       its training there, and the time of its rankings

A file is replaced atomically; without "metrics" the test set is not ranked yet. Figures come from the longest training
on any machine; times are compared on one machine only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.harness.machine import machine_class, machine_record
from bench.harness.records import RecordKind
from bench.peers.systems import System

SCHEMA = 1
KIND = "mtaw_fast peers"
_COST = "cost"
_RECORDS = RecordKind("bench.peers", KIND, SCHEMA, "training")
read_record, every_record = _RECORDS.read, _RECORDS.every


def path_of(results: Path, dataset: str, system: System) -> Path:
    """Return the file of a system on a data set."""
    return results / f"{dataset}-{system.name}.json"


def cost_path_of(results: Path, dataset: str, name: str) -> Path:
    """Return the file of the costs of a system, or of our preset, on this machine."""
    return results / _COST / machine_class(machine_record()) / f"{dataset}-{name}.json"


def costs(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the cost records of each machine class."""
    folders = sorted(path for path in (results / _COST).glob("*") if path.is_dir())
    return {folder.name: list(every_record(folder)) for folder in folders}
