"""The files of a data set folder: the manifest, the arrays, and their checks; training in one file or in parts.

The training sessions of a sharded set are in parts: files of whole sessions, in order. The manifest has the hash and
size of every part, and those of the single file that the parts would make. So the fingerprint equals that of the same
set in one piece.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import DataError, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.storage.files import open_regular, read_json, sha256_of
from mtaw_fast.storage.tensor_file import digest_of_joined, map_tensors, write_tensors

FORMAT_VERSION = 3
SHARDED_VERSION = 4  # with the training sessions in parts
_FILES = ("train", "test", "ids")
ITEM_TABLE = "item_table"  # a file that only some data sets have
_TRAIN_ARRAYS = ("items", "offsets", "times", "types", "context")  # in the order of the file
_NAMES = "|".join((*_FILES, ITEM_TABLE))
_DATA_FILE = re.compile(rf"({_NAMES})-[0-9a-f]{{12}}\.safetensors")
_DRAFT = re.compile(rf"({_NAMES})\.safetensors|\.(({_NAMES})\.safetensors|manifest\.json)\..*\.tmp")


@dataclass(frozen=True, slots=True, eq=False)
class StoredDataset:
    """A mapped data set folder. `parts` are the training sessions, not joined; the other fields are as in `Dataset`."""

    name: str
    parts: Sequence[Sessions]
    test: Samples
    ids: ItemIds
    min_prefix: int
    preparation: Mapping[str, Any]
    fingerprint: str
    type_names: tuple[str, ...]
    reader: Mapping[str, Any]
    unseen: np.ndarray | None
    context: ContextColumns | None
    items: ItemTable | None = None


def read_stored(folder: str | os.PathLike[str]) -> StoredDataset:
    """Map a data set folder. Raises DataError if it is missing, damaged or of another format."""
    folder = Path(folder)
    manifest = _read_manifest(folder)
    version = manifest["format_version"]
    try:
        entries = {part: manifest["files"][part] for part in _FILES}
        digests = {part: str(entries[part]["sha256"]) for part in _FILES}
        pieces = list(entries["train"]["parts"]) if version == SHARDED_VERSION else [entries["train"]]
        training_files = [(str(piece["file"]), str(piece["sha256"]), piece.get("bytes")) for piece in pieces]
        table_entry = manifest["files"].get(ITEM_TABLE)
        other_files = [(str(entries[part]["file"]), digests[part], entries[part].get("bytes")) for part in _FILES[1:]]
        name, min_prefix = str(manifest["name"]), int(manifest["min_prefix"])
        preparation = dict(manifest["preparation"])
        type_names = tuple(map(str, manifest["type_names"]))
        reader = dict(manifest["reader"])
        context = ContextColumns.from_dict(manifest.get("context", []))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder}/manifest.json lacks {error}; prepare the data set again") from None
    if not training_files:
        raise DataError(f"{folder}/manifest.json names no training part; prepare the data set again")
    trains = [_mapped(folder, *file) for file in training_files]
    test, ids = (_mapped(folder, *file) for file in other_files)
    try:
        *sessions, prefixes = (
            Sessions(file["items"], file["offsets"], file.get("times"), file.get("types"), file.get("context"))
            for file in (*trains, test)
        )
        samples = Samples(
            prefixes, test["targets"], test["session"], test.get("target_times"), test.get("target_types")
        )
    except KeyError as error:
        raise DataError(f"{folder}: a data file lacks {error}; prepare the data set again") from None
    table = ItemIds(ids)
    if len({(part.times is None, part.types is None) for part in sessions}) > 1:
        raise DataError(f"{folder}: some training parts have times or types and some have none; prepare it again")
    for part in sessions:
        check_clicks(part, len(table), len(type_names), f"data set {name}, train")
        check_context(part, context, f"data set {name}, train")
    check_context(prefixes, context, f"data set {name}, test")
    check_samples(samples, len(table), len(type_names), f"data set {name}, test")
    fingerprint = "-".join(digests[part][:12] for part in _FILES)
    return StoredDataset(
        name,
        sessions,
        samples,
        table,
        min_prefix,
        preparation,
        fingerprint,
        type_names,
        reader,
        test.get("unseen"),
        context,
        None if table_entry is None else _item_table(folder, table_entry, len(table)),
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Return a manifest of a format that this release reads."""
    manifest = read_json(
        folder / "manifest.json", lambda reason: DataError(f"{reason}; is {folder} a folder made by 'prepare'?")
    )
    if not isinstance(manifest, dict) or manifest.get("format") != "mtaw_fast dataset":
        raise DataError(f"{folder} is not a data set folder; make one with 'mtaw-fast prepare'")
    version = manifest.get("format_version")
    if version not in (FORMAT_VERSION, SHARDED_VERSION):
        raise DataError(
            f"{folder} has data set format {shown(version)}, this release reads {FORMAT_VERSION} and "
            f"{SHARDED_VERSION}; upgrade mtaw-fast or prepare the data set again"
        )
    return manifest


def _item_table(folder: Path, described: Any, n_items: int) -> ItemTable:
    """Return the item table that the manifest describes so."""
    try:
        entry = (str(described["file"]), str(described["sha256"]), described.get("bytes"))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}/manifest.json lacks {error}; prepare the data set again") from None
    items = ItemTable.of(_mapped(folder, *entry), f"the item table of {folder}")
    if items.n_rows != n_items:
        raise DataError(f"{folder}: its item table has {items.n_rows} rows for {n_items} items; prepare it again")
    return items


def manifest_of(
    name: str,
    min_prefix: int,
    counts: Sequence[int],
    preparation: Mapping[str, Any],
    type_names: Sequence[str],
    reader: Mapping[str, Any],
    files: Mapping[str, Any],
    context: ContextColumns | None = None,
) -> dict[str, Any]:
    """Return the manifest. counts: items, training sessions and samples, test samples. files: by name, the entry with
    file, sha256 and bytes, or that of `sharded_entry`."""
    n_items, train_sessions, train_samples, test_samples = counts
    return {
        "format": "mtaw_fast dataset",
        "format_version": SHARDED_VERSION if "parts" in files["train"] else FORMAT_VERSION,
        "name": name,
        "n_items": n_items,
        "min_prefix": min_prefix,
        "train_sessions": train_sessions,
        "train_samples": train_samples,
        "test_samples": test_samples,
        "preparation": dict(preparation),
        "type_names": list(type_names),
        "reader": dict(reader),
        "files": dict(files),
        **({} if context is None else {"context": context.as_dict()}),
    }


def write_part(folder: Path, part: str, arrays: Mapping[str, np.ndarray], draft: Path | None = None) -> dict[str, Any]:
    """Write a file of the data set under a name made of its hash; return its manifest entry. draft: its first path."""
    draft = draft or folder / f"{part}.safetensors"
    write_tensors(draft, arrays)
    digest = sha256_of(draft)
    path = draft.replace(folder / f"{part}-{digest[:12]}.safetensors")
    return {"file": path.name, "sha256": digest, "bytes": path.stat().st_size}


def remove_parts(paths: Iterable[Path]) -> None:
    """Remove those of the files that are parts of a data set."""
    for path in paths:
        if _DATA_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)


def sharded_entry(folder: Path, parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the manifest entry of training parts in `folder`. parts: file, sha256, bytes and sessions of each.

    Reads every part once, a piece at a time.
    """
    mapped = [map_tensors(folder / part["file"], "map") for part in parts]
    offsets = [part["offsets"] for part in mapped]
    ends = offsets_of(np.array([part_offsets[-1] for part_offsets in offsets], np.int64))
    pieces: dict[str, Sequence[np.ndarray]] = {
        name: [part[name] for part in mapped] for name in _TRAIN_ARRAYS if name in mapped[0]
    }
    pieces["offsets"] = _Shifted(offsets, ends)
    digest, size = digest_of_joined(pieces)
    return {"sha256": digest, "bytes": size, "parts": [dict(part) for part in parts]}


class _Shifted(Sequence[np.ndarray]):
    """The offsets of the joined parts, computed part by part on access. `offsets` of each part begin at 0."""

    def __init__(self, offsets: Sequence[np.ndarray], ends: np.ndarray) -> None:
        self._offsets, self._ends = offsets, ends

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, part: Any) -> Any:
        offsets = self._offsets[part]
        return offsets if part == 0 else offsets[1:] + self._ends[part]


def session_arrays(sessions: Sessions) -> dict[str, np.ndarray]:
    """Return the arrays of a training file."""
    arrays = {name: getattr(sessions, name) for name in _TRAIN_ARRAYS}
    return {name: array for name, array in arrays.items() if array is not None}


def sample_arrays(samples: Samples, unseen: np.ndarray | None) -> dict[str, np.ndarray]:
    """Return the arrays of a test file."""
    prefixes = samples.prefixes
    arrays = {
        "items": prefixes.items,
        "offsets": prefixes.offsets,
        "targets": samples.targets,
        "session": samples.session,
        "times": prefixes.times,
        "types": prefixes.types,
        "context": prefixes.context,
        "target_times": samples.target_times,
        "target_types": samples.target_types,
        "unseen": unseen if unseen is not None and len(unseen) else None,
    }
    return {name: array for name, array in arrays.items() if array is not None}


def check_clicks(sessions: Sessions, n_items: int, n_types: int, where: str) -> None:
    """Raise DataError, naming `where`, on an item id or type code out of range."""
    sessions.check_ids(n_items, where)
    _check_types(sessions.types, n_types, where)


def check_context(sessions: Sessions, columns: ContextColumns | None, where: str) -> None:
    """Raise DataError, naming `where`, unless the sessions' context has codes of these columns, or both are missing."""
    codes, sizes = sessions.context, () if columns is None else columns.sizes
    if (codes is None) != (columns is None) or (codes is not None and codes.shape[1] != len(sizes)):
        raise DataError(f"{where}: its context does not fit the columns of the manifest; prepare the data set again")
    if codes is not None and len(codes) and (codes.max(axis=0) > np.array(sizes)).any():
        raise DataError(f"{where}: a code of the context lies outside its column; prepare the data set again")


def check_samples(samples: Samples, n_items: int, n_types: int, where: str) -> None:
    """Check samples as `check_clicks` checks sessions."""
    check_clicks(samples.prefixes, n_items, n_types, where)
    _check_types(samples.target_types, n_types, where)
    if len(samples) and (samples.targets.min() < 0 or samples.targets.max() >= n_items):
        raise DataError(f"{where.rpartition(',')[0]}: a test target lies outside 0..{n_items - 1}")


def _check_types(types: np.ndarray | None, n_types: int, where: str) -> None:
    if types is not None and len(types) and types.max() >= n_types:
        raise DataError(
            f"{where.rpartition(',')[0]}: a click has type {types.max()}, but only {n_types} types have names; "
            "prepare the data set again"
        )


def _mapped(folder: Path, file: str, digest: str, size: int | None) -> dict[str, np.ndarray]:
    """Map a file of the folder and check its hash and size, if that is stated."""
    if Path(file).name != file:
        raise DataError(f"{folder}/manifest.json names a file outside the folder; prepare the data set again")
    os.close(open_regular(folder / file, DataError, size))  # checks file type and size before the file is hashed
    arrays = map_tensors(folder / file, mapping="map")
    if sha256_of(folder / file) != digest:
        raise DataError(f"{folder / file} is damaged (its hash differs); prepare the data set again")
    return arrays


def sweep_drafts(folder: Path) -> None:
    """Remove the unfinished files of a killed writer from `folder`. The caller has locked the folder."""
    for path in folder.iterdir():
        if _DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)
