"""Records that stay in the repository, with their reads of the test set and what made them.

A bench keeps its records in one file, a JSON object a line, by name: FOLDER/<bench>.jsonl.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import register
from bench.harness.machine import commit_of, machine_record
from mtaw_fast.errors import DataError
from mtaw_fast.storage.files import write_bytes

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RecordFile:
    """The records of a bench in a file; without it there are none.

    kind, schema: fields of every record. measured: the field that a finished one has.
    """

    path: Path
    kind: str
    schema: int
    measured: str

    def every(self) -> dict[str, Record]:
        """Return all records by name, in the order of names.

        Raises DataError if the file cannot be read, or a line is no record of this kind and schema.
        """
        records = dict(read_lines(self.path)) if self.path.exists() else {}
        for name, record in records.items():
            if (record.get("kind"), record.get("schema")) != (self.kind, self.schema):
                raise DataError(
                    f"{self.path}: {name} is no record of bench.{self.path.stem}, or of another schema; move it away"
                )
        return records

    def finished(self) -> list[Record]:
        """Return the records that have been measured whole, in the order of names."""
        return [record for record in self.every().values() if self.measured in record]

    def entry(self, name: str) -> Entry:
        """Return the location of the record of this name."""
        return Entry(self, name)


@dataclass(frozen=True, slots=True)
class Entry:
    """The location of one record, which may not exist yet."""

    file: RecordFile
    name: str

    def __str__(self) -> str:
        return f"{self.file.path}: {self.name}"

    def found(self) -> Record | None:
        """Return the record, or None if there is none."""
        return self.file.every().get(self.name)

    def read(self) -> Record:
        """Return the record; DataError if there is none."""
        record = self.found()
        if record is None:
            raise DataError(f"{self}: there is no such record")
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Add or replace the record. The file is replaced atomically; other records of it stay."""
        self.file.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(self.file.path.parent):
            records: dict[str, Mapping[str, Any]] = {**self.file.every(), self.name: record}
            lines = (json.dumps({"name": name, **records[name]}, ensure_ascii=False) + "\n" for name in sorted(records))
            write_bytes(self.file.path, "".join(lines).encode())


def read_lines(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the name and the record of every line. Raises DataError on a line that is no JSON object with a name."""
    for number, record in enumerate(register.read_json_lines(path), 1):
        if "name" not in record:
            raise DataError(f"{path}, line {number}, has no name")
        yield record.pop("name"), record


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Wait for the lock of a folder: two trainings may finish in the same moment."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def log_read(entry: Entry, record: Record, why: str) -> None:
    """Add a read of the test set to the record and to the register next to it, before the read happens."""
    record["reads"] = [*record["reads"], {"at": _now(), "commit": commit(), "why": why}]
    entry.write(record)
    register.append(entry.file.path.parent, register.line_of(record, record["reads"][-1]))


def finish(entry: Entry, record: Mapping[str, Any]) -> None:
    """Write the whole record, with the time, the machine and the versions that made it."""
    machine = {name: value for name, value in machine_record().items() if name != "kernel"}
    entry.write({**record, "made": {"at": _now(), "commit": commit(), "machine": machine}})


@functools.cache
def commit() -> str | None:
    """Return the commit that this process started with; changed records do not count as changed code."""
    return commit_of(ignoring="docs")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
