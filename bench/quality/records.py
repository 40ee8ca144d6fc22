"""One trained and evaluated model: a JSON file that says how it was made, what it reached and when the test was read.

    <data set>-<preset>-<hash of the settings>-<split>-seed<N>.json
    <data set>-<preset>-<hash of the settings>-test-published-seed<N>.json     by the published protocol

The hash is of the settings that differ from the defaults, the seed left out, so that a later release's new settings
leave the names as they are. A file is replaced atomically; one without "metrics" is of a run that was cut off.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.machine import checkout, machine_record
from mtaw_fast.config import Config
from mtaw_fast.config.former_names import to_former
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.storage.files import read_json, write_json

SCHEMA = 1
KIND = "mtaw_fast quality"
SPLITS = ("validation", "test")
# What chooses the epoch: the held-out sessions, or (a leak, as published figures do it) the test set itself.
HELD_OUT, PUBLISHED = PROTOCOLS = ("held-out", "published")
# What shapes a session memory alone: without one, its defaults may change and the model stays what it was.
_MEMORY_SETTINGS = frozenset({
    "window", "span", "recency", "max_neighbours", "max_postings", "near_candidates", "dense_candidates",
    "ranker_slice", "ranker_epochs", "ranker_lr", "ranker_samples", "trends", "half_lives", "trend_candidates",
    "prequential", "lesson_clicks", "lesson_seconds", "leave_out",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finalist:
    """What one file is about.

    preset: the name the settings came from. config: all of them, the seed included. protocol: one of PROTOCOLS.
    """

    dataset: str
    preset: str
    config: Config
    split: str
    protocol: str = HELD_OUT

    def file_name(self) -> str:
        """The name of its file."""
        split = self.split if self.protocol == HELD_OUT else f"{self.split}-{self.protocol}"
        return (
            f"{self.dataset}-{self.preset}-{settings_hash(self.config)}-{split}-seed{self.config.optimizer.seed}.json"
        )

    def new_record(self, fingerprint: str, preset: Config) -> dict[str, Any]:
        """The file's content before anything was measured. fingerprint: of the data set; preset: its settings."""
        _commit()  # asked for before the training, and remembered
        return {
            "kind": KIND,
            "schema": SCHEMA,
            "dataset": {"name": self.dataset, "fingerprint": fingerprint},
            "preset": self.preset,
            "changed": changed_settings(self.config, preset),
            "config": to_former(self.config.settings()),
            "seed": self.config.optimizer.seed,
            "split": self.split,
            "protocol": self.protocol,
            "reads": [],
        }


def changed_settings(config: Config, base: Config) -> dict[str, Any]:
    """The settings in which `config` differs from `base`, the seed left out."""
    before = to_former(base.settings())
    return {
        name: value for name, value in to_former(config.settings()).items() if value != before[name] and name != "seed"
    }


def settings_hash(config: Config) -> str:
    """Eight hex digits of the settings that differ from the defaults, the seed left out."""
    text = json.dumps(changed_settings(config, Config()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def load(path: Path, finalist: Finalist, fingerprint: str) -> dict[str, Any] | None:
    """The record at `path`, or None where there is none.

    Raises DataError where the file is no such record, UsageError where it was made with other defaults or other data.
    """
    if not path.exists():
        return None
    record = read_record(path)
    made_with = Config.from_dict(record["config"])
    absent = _MEMORY_SETTINGS - record["config"].keys() if finalist.config.memory.enabled else frozenset()
    if absent or _shaping(made_with) != _shaping(finalist.config) or record["preset"] != finalist.preset:
        raise UsageError(f"{path} was made when the defaults were others; move it away to measure again")
    if record["dataset"]["fingerprint"] != fingerprint:
        raise UsageError(f"{path} was made from other data ({record['dataset']['fingerprint']}); move it away")
    return record


def _shaping(config: Config) -> dict[str, Any]:
    """The settings that shape the model."""
    names = frozenset() if config.memory.enabled else _MEMORY_SETTINGS
    return {name: value for name, value in to_former(config.settings()).items() if name not in names}


def protocol_of(record: Mapping[str, Any]) -> str:
    """Which of PROTOCOLS chose the record's epoch."""
    return record.get("protocol", HELD_OUT)


def read_record(path: Path) -> dict[str, Any]:
    """The record at `path`; raises DataError where it is none."""
    return _checked(read_json(path, DataError), str(path))


def every_record(folder: Path) -> Iterator[dict[str, Any]]:
    """The finished records of a folder, by file name."""
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        if "metrics" in record:
            yield record


def read_series(path: Path, name: str) -> list[dict[str, Any]]:
    """The records of one series of a JSONL, whose lines are records with "series" and "file", their former name.

    Raises DataError where the file cannot be read or a line is no record, UsageError where it has no such series.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    every: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate(lines, 1):
        place = f"{path}, line {number},"
        try:
            record = _checked(json.loads(line), place)
        except ValueError as error:
            raise DataError(f"{place} is no JSON: {error}") from None
        every.setdefault(str(record.get("series")), []).append(record)
    if name not in every:
        raise UsageError(f"{path} has no series '{name}'; it has {', '.join(sorted(every))}")
    return every[name]


def _checked(record: Any, place: str) -> dict[str, Any]:
    if not isinstance(record, dict) or record.get("kind") != KIND or record.get("schema") != SCHEMA:
        raise DataError(f"{place} is no record of bench.quality, or of another schema; move it away")
    return record


def log_read(path: Path, record: dict[str, Any], why: str) -> None:
    """Note in the file, before it happens, that the test set is read for it."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    record["reads"] = [*record["reads"], {"at": now, "commit": _commit(), "why": why}]
    write_json(path, record)


def finish(path: Path, record: dict[str, Any], measured: Mapping[str, Any]) -> None:
    """Write the file whole: what was measured, when, on what machine, and by which versions."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    machine = {name: value for name, value in machine_record().items() if name != "kernel"}
    made = {"at": now, "commit": _commit(), "machine": machine}
    write_json(path, {**record, **measured, "made": made})


@functools.cache
def _commit() -> str | None:
    """The commit that this process began with, not one made while it trained.

    Records of this bench, which every run adds to, do not count as a change of the code.
    """
    return checkout(ignoring="docs").as_json()
