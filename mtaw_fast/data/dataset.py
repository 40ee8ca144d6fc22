"""A data set on disk: training sessions, test samples and the id table in one mapped folder.

    manifest.json           format, counts, name, min_prefix, names of the types, how it was prepared, its reader
    train-<hash>.safetensors    items, offsets[, times][, types]
    test-<hash>.safetensors     items, offsets, targets, session[, times, target_times][, types, target_types][, unseen]
    ids-<hash>.safetensors      the external ids

The manifest is written last and atomically: a folder without it is no data set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.storage.files import check_writable, folder_lock, open_regular, read_json, sha256_of, write_json
from mtaw_fast.storage.tensorfile import map_tensors, write_tensors

FORMAT_VERSION = 3
# 1: text ids by sorted BLAKE2b hashes (`item_ids`). 1 and 2: training clicks alone have times, `timestamps` in seconds.
READABLE_VERSIONS = (1, 2, 3)
_TIMED_VERSION = 3
_PARTS = ("train", "test", "ids")
_FILE = re.compile(rf"({'|'.join(_PARTS)})-[0-9a-f]{{12}}\.safetensors")


def refuse_existing(folder: Path, overwrite: bool = False) -> None:
    """Raise UsageError where `folder` already holds a data set (something else, with `overwrite`), DataError where
    nothing can be written into it."""
    if (folder / "manifest.json").exists():
        if not overwrite:
            raise UsageError(
                f"{folder} already holds a data set; pass --overwrite (overwrite=True) or choose another folder"
            )
        if not _is_dataset(folder):
            raise UsageError(f"{folder} holds something else than a data set; choose another folder")
    check_writable(folder, DataError)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What a reader makes and training reads.

    train: whole sessions in order of their last click (in the source: that one may have been left out since, its item
    being rare), every one of at least `min_prefix` + 1 clicks. Within a session times do not fall, but where
    RetailRocket's script joins two visitors.
    test: next-click samples; their session numbers group prefixes of one session. Both have times and types of their
    clicks where the source has them; a set of format 1 or 2 has times of training clicks alone.
    ids: external ids of the N items.
    min_prefix: the shortest prefix that counts as a sample.
    preparation: how it was made (reader and its settings), kept for the record.
    type_names: what the codes of the clicks' types stand for; empty without types.
    reader: how another log of the same source is read (`readers.read_stream`): its format and the options that say
    what is where. Empty where the set was made by other means.
    unseen: int32[M], test clicks that are no targets since training never saw their items, each by the number of its
    session: one of the samples' or, of a session without a sample, one of its own. None where there is none.
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

    def __post_init__(self) -> None:
        if self.min_prefix < 1:
            raise DataError(f"data set {self.name}: min_prefix must be at least 1, not {self.min_prefix}")
        if len(self.train) == 0:
            raise DataError(f"data set {self.name}: no training session is left; loosen the filters")
        self.train.check_ids(self.n_items, f"data set {self.name}, train")
        self.test.prefixes.check_ids(self.n_items, f"data set {self.name}, test")
        if len(self.test) and (self.test.targets.min() < 0 or self.test.targets.max() >= self.n_items):
            raise DataError(f"data set {self.name}: a test target lies outside 0..{self.n_items - 1}")
        for types in (self.train.types, self.test.prefixes.types, self.test.target_types):
            if types is not None and len(types) and types.max() >= len(self.type_names):
                raise DataError(
                    f"data set {self.name}: a click has type {types.max()}, of {len(self.type_names)} that have names; "
                    "make the data set again from its source"
                )

    @property
    def n_items(self) -> int:
        """N, the size of the catalog."""
        return len(self.ids)

    @property
    def n_train_samples(self) -> int:
        """Prefixes of at least `min_prefix` clicks in the training sessions that have a next click."""
        return int(np.maximum(self.train.lengths - self.min_prefix, 0).sum())

    def summary(self) -> dict[str, Any]:
        """What it holds in plain JSON values: counts, from when to when (milliseconds), training clicks of each type,
        and the report on its log where it was made with one."""
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
        """Write the folder (made if missing); `overwrite` replaces a data set that is there, whose readers keep it.

        Raises UsageError where it already holds a data set, DataError where somebody else is writing one there.
        """
        folder = Path(folder)
        refuse_existing(folder, overwrite)
        with folder_lock(folder, DataError):
            refuse_existing(folder, overwrite)  # by somebody else meanwhile
            old = set(folder.glob("*.safetensors"))
            self._write(folder, old)

    def _write(self, folder: Path, old: set[Path]) -> None:
        """Write the files, then the manifest; a data set's files among those that were there (`old`) go at the end."""
        manifest_path = folder / "manifest.json"
        written: list[Path] = []
        try:
            files = {}
            for part, arrays in self._arrays().items():
                draft = folder / f"{part}.safetensors"
                written.append(draft)
                write_tensors(draft, arrays)
                digest = sha256_of(draft)
                path = folder / f"{part}-{digest[:12]}.safetensors"
                draft.rename(path)
                written[-1] = path
                files[part] = {"file": path.name, "sha256": digest, "bytes": path.stat().st_size}
            write_json(manifest_path, self._manifest(files))
        except BaseException:
            for path in written:
                if path not in old:  # it may be a file of the data set that stays
                    path.unlink(missing_ok=True)
            raise
        for path in old.difference(written):
            if _FILE.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _arrays(self) -> dict[str, dict[str, np.ndarray]]:
        train, prefixes = self.train, self.test.prefixes
        known: dict[str, Mapping[str, np.ndarray | None]] = {
            "train": {"items": train.items, "offsets": train.offsets, "times": train.times, "types": train.types},
            "test": {
                "items": prefixes.items,
                "offsets": prefixes.offsets,
                "targets": self.test.targets,
                "session": self.test.session,
                "times": prefixes.times,
                "types": prefixes.types,
                "target_times": self.test.target_times,
                "target_types": self.test.target_types,
                "unseen": self.unseen if self.unseen is not None and len(self.unseen) else None,
            },
            "ids": self.ids.arrays,
        }
        return {
            part: {name: array for name, array in arrays.items() if array is not None} for part, arrays in known.items()
        }

    def _manifest(self, files: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "format": "mtaw_fast dataset",
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "n_items": self.n_items,
            "min_prefix": self.min_prefix,
            "train_sessions": len(self.train),
            "train_samples": self.n_train_samples,
            "test_samples": len(self.test),
            "preparation": dict(self.preparation),
            "type_names": list(self.type_names),
            "reader": dict(self.reader),
            "files": files,
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Map a data set folder. Raises DataError where it is missing, damaged or of a newer format."""
        folder = Path(folder)
        manifest = read_json(
            folder / "manifest.json", lambda why: DataError(f"{why}; is {folder} a folder made by 'prepare'?")
        )
        if not isinstance(manifest, dict) or manifest.get("format") != "mtaw_fast dataset":
            raise DataError(f"{folder} is not a data set folder; make one with 'mtaw-fast prepare'")
        version = manifest.get("format_version")
        if version not in READABLE_VERSIONS:
            raise DataError(
                f"{folder} has data set format {shown(version)}, this release reads "
                f"{' and '.join(map(str, READABLE_VERSIONS))}; upgrade mtaw-fast or prepare the data set again"
            )
        try:
            names = {part: str(manifest["files"][part]["file"]) for part in _PARTS}
            digests = {part: str(manifest["files"][part]["sha256"]) for part in _PARTS}
            sizes = {part: manifest["files"][part].get("bytes") for part in _PARTS}
            name, min_prefix = str(manifest["name"]), int(manifest["min_prefix"])
            preparation = dict(manifest["preparation"])
            type_names = tuple(map(str, manifest["type_names"])) if version >= _TIMED_VERSION else ()
            reader = dict(manifest["reader"]) if version >= _TIMED_VERSION else {}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{folder}/manifest.json lacks {error}; prepare the data set anew") from None
        parts = {}
        for part in _PARTS:
            if Path(names[part]).name != names[part]:
                raise DataError(f"{folder}/manifest.json names a file outside the folder; prepare the data set anew")
            # Of the stated size before anything is hashed; sets of earlier formats state none.
            os.close(open_regular(folder / names[part], DataError, sizes[part]))
            parts[part] = map_tensors(folder / names[part], mapping="map")
            if sha256_of(folder / names[part]) != digests[part]:
                raise DataError(f"{folder / names[part]} is damaged (its hash differs); prepare the data set anew")
        try:
            train, test = parts["train"], parts["test"]
            times = train.get("times") if version >= _TIMED_VERSION else _times_of_seconds(train, preparation)
            sessions = Sessions(train["items"], train["offsets"], times, train.get("types"))
            prefixes = Sessions(test["items"], test["offsets"], test.get("times"), test.get("types"))
            samples = Samples(
                prefixes, test["targets"], test["session"], test.get("target_times"), test.get("target_types")
            )
        except KeyError as error:
            raise DataError(f"{folder}: a data file lacks {error}; prepare the data set anew") from None
        fingerprint = "-".join(digests[part][:12] for part in _PARTS)
        return cls(
            name, sessions, samples, ItemIds(parts["ids"]), min_prefix, preparation, fingerprint, type_names, reader,
            test.get("unseen"),
        )  # fmt: skip


def _is_dataset(folder: Path) -> bool:
    try:
        manifest = read_json(folder / "manifest.json", DataError)
    except DataError:
        return True  # a damaged manifest: overwriting is the mend
    return isinstance(manifest, dict) and manifest.get("format") == "mtaw_fast dataset"


def _times_of_seconds(train: Mapping[str, np.ndarray], preparation: Mapping[str, Any]) -> np.ndarray | None:
    """int64[T] milliseconds of the training clicks of a set of format 1 or 2, or None.

    Those of Tmall's log count units of its own, so they are no times.
    """
    seconds = train.get("timestamps")
    return None if seconds is None or preparation.get("reader") == "tmall" else seconds * 1000
