"""One system on one data set: what it reached, a JSON file, and what it costs on a class of machines, another one.

    <data set>-<system>.json                            how it was trained, how far it came, its figures
    cost/<machine class>/<data set>-<system>.json       its training there, and the time of its rankings

A file is replaced atomically; one without "metrics" is of a run whose test was not ranked yet. Figures are those of the
longest training, wherever that was; what is compared in seconds was measured on one machine.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.harness.machine import checkout, machine_class, machine_record
from bench.peers.systems import System
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import read_json, write_json

SCHEMA = 1
KIND = "mtaw_fast peers"
_COST = "cost"


def path_of(results: Path, dataset: str, system: System) -> Path:
    """The file of a system on a data set."""
    return results / f"{dataset}-{system.name}.json"


def cost_path_of(results: Path, dataset: str, name: str) -> Path:
    """The file of what a system, or a preset of ours, costs on this machine."""
    return results / _COST / machine_class(machine_record()) / f"{dataset}-{name}.json"


def costs(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Machine class -> the records of what systems cost there."""
    folders = sorted(path for path in (results / _COST).glob("*") if path.is_dir())
    return {folder.name: list(every_record(folder)) for folder in folders}


def read_record(path: Path) -> dict[str, Any]:
    """The record at `path`; raises DataError where it is none."""
    record = read_json(path, DataError)
    if not isinstance(record, dict) or record.get("kind") != KIND or record.get("schema") != SCHEMA:
        raise DataError(f"{path} is no record of bench.peers, or of another schema; move it away")
    return record


def every_record(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a folder that have a training, by file name."""
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        if "training" in record:
            yield record


def log_read(path: Path, record: dict[str, Any], why: str) -> None:
    """Note in the file, before it happens, that the test set is read for it."""
    record["reads"] = [*record["reads"], {"at": _now(), "commit": _commit(), "why": why}]
    write_json(path, record)


def finish(path: Path, record: dict[str, Any]) -> None:
    """Write the file whole, with when, on what machine and by which versions it was made."""
    machine = {name: value for name, value in machine_record().items() if name != "kernel"}
    write_json(path, {**record, "made": {"at": _now(), "commit": _commit(), "machine": machine}})


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _commit() -> str | None:
    return checkout(ignoring="docs").as_json()
