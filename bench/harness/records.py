"""Records that stay in the repository: a JSON file each, with its reads of the test set and what made it."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import register
from bench.harness.machine import checkout, machine_record
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class RecordKind:
    """Records of one bench. kind, schema: fields of every record. measured: the field that a finished one has."""

    bench: str
    kind: str
    schema: int
    measured: str

    def read(self, path: Path) -> dict[str, Any]:
        """Return the record at `path`; DataError if it is of another kind."""
        return self.checked(read_json(path, DataError), str(path))

    def every(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Yield the finished records of a folder, by file name."""
        for path in sorted(folder.glob("*.json")):
            record = self.read(path)
            if self.measured in record:
                yield record

    def checked(self, record: Any, place: str) -> dict[str, Any]:
        """Return the record; DataError if it is of another kind or schema."""
        if not isinstance(record, dict) or (record.get("kind"), record.get("schema")) != (self.kind, self.schema):
            raise DataError(f"{place} is no record of {self.bench}, or of another schema; move it away")
        return record


def log_read(path: Path, record: dict[str, Any], why: str) -> None:
    """Add a read of the test set to the record and to the register next to it, before the read happens."""
    record["reads"] = [*record["reads"], {"at": _now(), "commit": commit(), "why": why}]
    write_json(path, record)
    register.append(path.parent, register.line_of(record, record["reads"][-1]))


def finish(path: Path, record: dict[str, Any]) -> None:
    """Write the whole record, with the time, the machine and the versions that made it."""
    machine = {name: value for name, value in machine_record().items() if name != "kernel"}
    write_json(path, {**record, "made": {"at": _now(), "commit": commit(), "machine": machine}})


@functools.cache
def commit() -> str | None:
    """Return the commit that this process started with; changed records do not count as changed code."""
    return checkout(ignoring="docs").as_json()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
