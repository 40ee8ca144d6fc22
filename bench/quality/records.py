"""The record of a trained and evaluated model: a line of quality.jsonl with its settings, figures and test reads.

    <data set>-<preset>-<hash of the settings>-<split>-seed<N>
    <data set>-<preset>-<hash of the settings>-test-<protocol>-seed<N>     by another protocol than the held-out one

The hash covers the settings that differ from the defaults, without the seed and by their former names, so new settings
do not change names. A record without "metrics" belongs to an interrupted run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.json_lines import read_json_lines
from bench.harness.records import Entry, RecordFile, RecordKind, commit, read_lines
from mtaw_fast.config import Config
from mtaw_fast.config.former_names import to_former
from mtaw_fast.errors import DataError, UsageError

SCHEMA = 1
KIND = "mtaw_fast quality"
FILE = "quality.jsonl"
_RECORDS = RecordKind("bench.quality", KIND, SCHEMA, "metrics")
SPLITS = ("validation", "test")
# How a model comes to its test figures. held-out: the held-out sessions choose the epoch, and a refit learns them too.
# not-refit: they choose, and stay unlearned. published: the test set chooses, a leak that some published code has.
HELD_OUT, PUBLISHED, NOT_REFIT = PROTOCOLS = ("held-out", "published", "not-refit")
# Settings that shape only a session memory: models without one do not depend on them. By their former names.
_MEMORY_SETTINGS = frozenset({
    "window", "span", "recency", "max_neighbours", "max_postings", "near_candidates",  # prose: ignore
    "dense_candidates", "ranker_slice", "ranker_epochs", "ranker_lr", "ranker_samples", "trends", "half_lives",
    "trend_candidates", "prequential", "lesson_clicks", "lesson_seconds", "leave_out",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders of a bench. results: has the records. work: has prepared data sets and running trainings."""

    results: Path
    work: Path

    @classmethod
    def made(cls, results: Path, work: Path) -> Folders:
        """Create both folders; return them."""
        for folder in (results, work):
            folder.mkdir(parents=True, exist_ok=True)
        return cls(results, work)

    def entry(self, name: str) -> Entry:
        """Return the entry of the record with this name."""
        return records_in(self.results).entry(name)


def records_in(results: Path) -> RecordFile:
    """Return the records of a folder."""
    return RecordFile(results / FILE, _RECORDS)


@dataclass(frozen=True, slots=True)
class Finalist:
    """The model of one record.

    preset: the name of the settings' preset. config: all settings, with the seed. protocol: one of PROTOCOLS.
    """

    dataset: str
    preset: str
    config: Config
    split: str
    protocol: str = HELD_OUT

    @property
    def name(self) -> str:
        """The name of its record."""
        split = self.split if self.protocol == HELD_OUT else f"{self.split}-{self.protocol}"
        return f"{self.dataset}-{self.preset}-{settings_hash(self.config)}-{split}-seed{self.config.optimizer.seed}"

    def new_record(self, fingerprint: str, preset: Config) -> dict[str, Any]:
        """Return the record before anything is measured. fingerprint: of the data set; preset: its own settings."""
        commit()  # remembers the commit before the training
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
    """Return the settings in which `config` differs from `base`, without the seed, by their former names."""
    base_settings = to_former(base.settings())
    return {
        name: value
        for name, value in to_former(config.settings()).items()
        if value != base_settings[name] and name != "seed"
    }


def settings_hash(config: Config) -> str:
    """Return eight hex digits of the settings that differ from the defaults, without the seed."""
    text = json.dumps(changed_settings(config, Config()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def load(entry: Entry, finalist: Finalist, fingerprint: str) -> dict[str, Any] | None:
    """Return the record of this location, or None if there is none.

    Raises DataError if it is no such record, UsageError if it was made with other defaults or other data.
    """
    record = entry.found()
    if record is None:
        return None
    made_with = Config.from_dict(record["config"])
    absent = _MEMORY_SETTINGS - record["config"].keys() if finalist.config.memory.enabled else frozenset()
    if absent or _shaping(made_with) != _shaping(finalist.config) or record["preset"] != finalist.preset:
        raise UsageError(f"{entry} was made with other defaults; move the line away to measure again")
    refuse_other_data(entry, record, fingerprint)
    return record


def refuse_other_data(entry: Entry, record: Mapping[str, Any], fingerprint: str) -> None:
    """Raise UsageError if the record was made from other data."""
    if record["dataset"]["fingerprint"] != fingerprint:
        raise UsageError(f"{entry} was made from other data ({record['dataset']['fingerprint']}); move the line away")


def _shaping(config: Config) -> dict[str, Any]:
    """Return the settings that shape the model."""
    names = frozenset() if config.memory.enabled else _MEMORY_SETTINGS
    return {name: value for name, value in to_former(config.settings()).items() if name not in names}


def protocol_of(record: Mapping[str, Any]) -> str:
    """Return which of PROTOCOLS made the record."""
    return record.get("protocol", HELD_OUT)


def read_series(path: Path, name: str) -> list[dict[str, Any]]:
    """Return the records of one series of a file, whose lines are records with "name" and "series".

    Raises DataError if the file cannot be read or a line is no record, UsageError if it has no such series.
    """
    by_series: dict[str, list[dict[str, Any]]] = {}
    try:
        for line, record in read_lines(path):
            by_series.setdefault(str(record.get("series")), []).append(_RECORDS.checked(record, f"{path}: {line}"))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from None
    if name not in by_series:
        raise UsageError(f"{path} has no series '{name}'; it has {', '.join(sorted(by_series))}")
    return by_series[name]


def read_points(path: Path) -> list[dict[str, Any]]:
    """Return the points of a curve, one JSON object a line; none without the file."""
    return read_json_lines(path) if path.exists() else []


def write_points(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Replace the points of a curve."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
