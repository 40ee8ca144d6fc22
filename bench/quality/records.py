"""The record of a trained and evaluated model: a line of quality.jsonl with its settings, figures and test reads.

    <data set>-<preset>-<hash of the settings>-<split>-seed<N>
    <data set>-<preset>-<hash of the settings>-test-<protocol>-seed<N>     by another protocol than the held-out one

The hash covers the settings that differ from the defaults, without the seed, so new settings do not change names. A
record without "metrics" belongs to an interrupted run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness.records import Entry, RecordFile, commit
from mtaw_fast.config import Config, MemoryConfig, RankerConfig
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError

SCHEMA = 1
KIND = "mtaw_fast quality"
FILE = "quality.jsonl"
SPLITS = ("validation", "test")
# How a model comes to its test figures. held-out: the held-out sessions choose the epoch, and a refit learns them too.
# not-refit: they choose, and stay unlearned.
HELD_OUT, NOT_REFIT = PROTOCOLS = ("held-out", "not-refit")
PUBLISHED = "published"  # of records alone: the test set chose the epoch, a leak that some published code has
# Settings that shape only a session memory: models without one do not depend on them.
_MEMORY_SETTINGS = {
    setting.name for group in (MemoryConfig, RankerConfig) for setting in dataclasses.fields(group)
} - {"enabled"}  # fmt: skip


def records_in(results: Path) -> RecordFile:
    """Return the records of a folder."""
    return RecordFile(results / FILE, KIND, SCHEMA, "metrics")


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


def new_record(dataset: Dataset, preset: str, split: str, **more: Any) -> dict[str, Any]:
    """Return a record before anything is measured."""
    commit()  # remembers the commit before the training
    named = {"name": dataset.name, "fingerprint": dataset.fingerprint}
    return {"kind": KIND, "schema": SCHEMA, "dataset": named, "preset": preset, "split": split, **more, "reads": []}


def changed_settings(config: Config, base: Config) -> dict[str, Any]:
    """Return the settings in which `config` differs from `base`, without the seed."""
    base_settings = base.settings()
    return {name: value for name, value in config.settings().items() if value != base_settings[name] and name != "seed"}


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
    config, has_memory = finalist.config, finalist.config.memory.enabled
    shaping, recorded = (
        {name: value for name, value in settings.items() if has_memory or name not in _MEMORY_SETTINGS}
        for settings in (config.settings(), record["config"])
    )
    if shaping != recorded or record["preset"] != finalist.preset:
        raise UsageError(f"{entry} was made with other defaults; move the line away to measure again")
    refuse_other_data(entry, record, fingerprint)
    return record


def refuse_other_data(entry: Entry, record: Mapping[str, Any], fingerprint: str) -> None:
    """Raise UsageError if the record was made from other data."""
    if record["dataset"]["fingerprint"] != fingerprint:
        raise UsageError(f"{entry} was made from other data ({record['dataset']['fingerprint']}); move the line away")


def protocol_of(record: Mapping[str, Any]) -> str:
    """Return one of PROTOCOLS, or PUBLISHED."""
    return record.get("protocol", HELD_OUT)
