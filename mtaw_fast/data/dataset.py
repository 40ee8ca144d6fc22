"""A data set on disk: training sessions, test samples and the id table in one mapped folder.

    manifest.json           format, counts, name, min_prefix, names of the types, how it was prepared, its reader
    train-<hash>.safetensors    items, offsets[, times][, types][, context]; a sharded set has one such file per part
    test-<hash>.safetensors     items, offsets, targets, session[, times, target_times][, types, target_types]
                                [, context][, unseen]
    ids-<hash>.safetensors      the external ids
    item_table-<hash>.safetensors    what is known about the items (`mtaw_fast.items`), if anything is

The manifest is written last and atomically: a folder without one is not a data set. `dataset_files` has the details.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.dataset_files import (
    ITEM_TABLE,
    check_clicks,
    check_context,
    check_samples,
    manifest_of,
    read_stored,
    remove_parts,
    sample_arrays,
    session_arrays,
    sweep_drafts,
    write_part,
)
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.storage.files import check_writable, folder_lock, read_json, write_json


def refuse_existing(folder: Path, overwrite: bool = False) -> None:
    """Raise UsageError if `folder` already has a data set (with `overwrite`: something else), and DataError if it
    cannot be written."""
    if (folder / "manifest.json").exists():
        if not overwrite:
            raise UsageError(
                f"{folder} already holds a data set; pass --overwrite (overwrite=True) or choose another folder"
            )
        if not _is_dataset(folder):
            raise UsageError(f"{folder} is not a data set folder; choose another folder")
    check_writable(folder, DataError)


def write_item_table(folder: Path, table: ItemTable, about: Mapping[str, Any]) -> None:
    """Add an item table to a data set in a folder, or replace it. about: a report on it, for the record."""
    with folder_lock(folder, DataError):
        manifest = read_json(folder / "manifest.json", DataError)
        old_entry, entry = manifest["files"].get(ITEM_TABLE), write_part(folder, ITEM_TABLE, table.arrays())
        manifest["files"][ITEM_TABLE] = entry
        manifest["preparation"]["items"] = dict(about)
        write_json(folder / "manifest.json", manifest)
        if old_entry is not None and old_entry["file"] != entry["file"]:
            (folder / old_entry["file"]).unlink(missing_ok=True)


def check_name(name: str) -> None:
    """Raise DataError if a data set's name is not UTF-8 text, which the manifest needs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise DataError(f"data set {name!r}: its name is not UTF-8 text; give another name") from None


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Training sessions and test samples, as a reader makes them and training reads them.

    train: whole sessions of at least `min_prefix` + 1 clicks, in order of their last click in the source (a click that
    is later removed because its item is rare still counts for the order). Times do not decrease within a session,
    except where RetailRocket's script joins two visitors.
    test: next-click samples; `session` groups the prefixes of one session. Both splits have the times and types of
    their clicks if the source has them.
    ids: external ids of the N items.
    min_prefix: the shortest prefix that counts as a sample.
    preparation: how the set was made: the reader and its settings.
    type_names: the names of the codes in `types`; empty without types.
    reader: how to read another log of the same source (`readers.read_stream`): the format and its options. Empty if no
    reader made the set.
    unseen: int32[M], the sessions of test clicks that are not targets because training never saw their items. A number
    is that of the session's samples, or one of its own for a session without samples. None without such clicks.
    context: the columns of the sessions' context; None without any.
    items: what is known about the items besides their clicks, if anything is.
    """

    name: str
    train: Sessions
    test: Samples
    ids: ItemIds
    min_prefix: int = 1
    preparation: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    type_names: tuple[str, ...] = ()
    reader: Mapping[str, Any] = field(default_factory=dict)
    unseen: np.ndarray | None = None
    context: ContextColumns | None = None
    items: ItemTable | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.min_prefix < 1:
            raise DataError(f"data set {self.name}: min_prefix must be at least 1, not {self.min_prefix}")
        if len(self.train) == 0:
            raise DataError(f"data set {self.name}: no training session is left; loosen the filters")
        check_clicks(self.train, self.n_items, len(self.type_names), f"data set {self.name}, train")
        check_samples(self.test, self.n_items, len(self.type_names), f"data set {self.name}, test")
        check_context(self.train, self.context, f"data set {self.name}, train")
        check_context(self.test.prefixes, self.context, f"data set {self.name}, test")

    @property
    def n_items(self) -> int:
        """N, the size of the catalog."""
        return len(self.ids)

    @property
    def n_train_samples(self) -> int:
        """The number of training prefixes of at least `min_prefix` clicks that have a next click."""
        return int(np.maximum(self.train.lengths - self.min_prefix, 0).sum())

    def summary(self) -> dict[str, Any]:
        """Return plain JSON values: counts, first and last time (milliseconds), training clicks by type, and the report
        on the log, if there is one."""
        train, types = self.train, self.train.types
        times = None if train.times is None else [int(train.times.min()), int(train.times.max())]
        counts = None if types is None else np.bincount(types, minlength=len(self.type_names)).tolist()
        return {
            "items": self.n_items,
            "train_sessions": len(train),
            "train_clicks": train.n_clicks,
            "train_samples": self.n_train_samples,
            "test_samples": len(self.test),
            "times": times,
            "types": None if counts is None else dict(zip(self.type_names, counts, strict=True)),
            "log": self.preparation.get("log"),
        }

    def save(self, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the folder. `overwrite` replaces an existing data set; processes that have it open keep their copy.

        Raises UsageError if the folder already has a data set, DataError if another process is writing one there.
        """
        folder = Path(folder)
        refuse_existing(folder, overwrite)
        with folder_lock(folder, DataError):
            refuse_existing(folder, overwrite)  # again, as another process may have written one meanwhile
            sweep_drafts(folder)
            old = set(folder.glob("*.safetensors"))
            self._write(folder, old)

    def _write(self, folder: Path, old: set[Path]) -> None:
        """Write the files, then the manifest, then remove the data set files among `old`, which existed before."""
        parts = {
            "train": session_arrays(self.train),
            "test": sample_arrays(self.test, self.unseen),
            "ids": dict(self.ids.arrays),
            **({} if self.items is None else {ITEM_TABLE: self.items.arrays()}),
        }
        counts = self.n_items, len(self.train), self.n_train_samples, len(self.test)
        try:
            files = {part: write_part(folder, part, arrays) for part, arrays in parts.items()}
            manifest = manifest_of(
                self.name, self.min_prefix, counts, self.preparation, self.type_names, self.reader, files, self.context
            )
            write_json(folder / "manifest.json", manifest)
        except BaseException:
            sweep_drafts(folder)
            remove_parts(set(folder.glob("*.safetensors")) - old)  # an old file belongs to the data set that stays
            raise
        remove_parts(path for path in old if path.name not in {entry["file"] for entry in files.values()})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Map a data set folder. The training parts of a sharded set are joined in memory: 12 bytes per click (13 with
        types) and 8 per session. Raises DataError if the folder is missing, damaged or of another format."""
        stored = read_stored(folder)
        train = stored.parts[0] if len(stored.parts) == 1 else Sessions.concatenate(stored.parts)
        return cls(
            stored.name, train, stored.test, stored.ids, stored.min_prefix, stored.preparation, stored.fingerprint,
            stored.type_names, stored.reader, stored.unseen, stored.context,
            stored.items,
        )  # fmt: skip


def _is_dataset(folder: Path) -> bool:
    try:
        manifest = read_json(folder / "manifest.json", DataError)
    except DataError:
        return True  # overwriting repairs a damaged manifest
    return isinstance(manifest, dict) and manifest.get("format") == "mtaw_fast dataset"
