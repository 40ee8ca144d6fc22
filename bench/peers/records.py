"""Records of a system on a data set: a line of peers.jsonl with its figures, and one with its costs on a machine class.

    <data set>-<system>                            its settings, its training and its figures
    cost/<machine class>/<data set>-<system>       its training there, and the time of its rankings

A record without "metrics" did not rank the test set yet. The costs are of commit 0c090e6d; nothing here measures them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.harness.records import Entry, RecordFile
from bench.peers.systems import System

SCHEMA = 1
KIND = "mtaw_fast peers"
FILE = "peers.jsonl"
_COST = "cost"


def entry_of(results: Path, dataset: str, system: System) -> Entry:
    """Return the location of the record of a system on a data set."""
    return _file(results).entry(f"{dataset}-{system.name}")


def trained(results: Path) -> list[dict[str, Any]]:
    """Return the records of all trained systems, without costs."""
    return [record for name, record in _measured(results) if not name.startswith(f"{_COST}/")]


def costs(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the cost records of each machine class."""
    by_machine: dict[str, list[dict[str, Any]]] = {}
    for name, record in _measured(results):
        if name.startswith(f"{_COST}/"):
            by_machine.setdefault(name.split("/")[1], []).append(record)
    return by_machine


def _measured(results: Path) -> list[tuple[str, dict[str, Any]]]:
    file = _file(results)
    return [(name, record) for name, record in file.every().items() if file.measured in record]


def _file(results: Path) -> RecordFile:
    return RecordFile(results / FILE, KIND, SCHEMA, "training")
