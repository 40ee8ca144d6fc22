"""Add parts to a bundle while others read it: new files first, then the manifest that names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.format import ADDED_PARTS, ITEM_PARTS, MANIFEST
from mtaw_fast.bundle.writer import bundle_lock, flush_folder, named_files, sweep, undone_on_failure, write_file
from mtaw_fast.errors import BundleError
from mtaw_fast.storage.files import read_json, write_json

_REPLACEABLE = (*ADDED_PARTS, *ITEM_PARTS)


@dataclass(frozen=True, slots=True)
class Addition:
    """A file to add. kind: its file extension. write: writes it durably to a path."""

    kind: str
    write: Callable[[Path], object]


def replace_parts(
    folder: Path,
    built_from: Mapping[str, Any],
    additions: Mapping[str, Addition | None],
    about: Mapping[str, Mapping[str, Any] | None],
) -> None:
    """Replace parts of a bundle in use, all at once; None removes a part.

    built_from: the manifest of the bundle that the parts were made for. additions: by part, each one of ADDED_PARTS or
    ITEM_PARTS. about: the manifest's entries about them, by the entry's name.

    A reader sees the bundle with all old parts or with all new ones. A kill at any moment leaves one of the two, a
    failure leaves the old one. Raises BundleError if the bundle was replaced meanwhile, is being written by another
    process, or the disk is full. What is known about the items is made from what was known before, so that must be the
    same too if it is replaced.
    """
    for part in additions:
        if part not in _REPLACEABLE:
            raise ValueError(f"{part!r} cannot be added; see ADDED_PARTS and ITEM_PARTS")
    folder = Path(os.path.realpath(folder))  # one bundle from begin to end, if a name is promoted to another meanwhile
    ignored = [part for part in _REPLACEABLE if part in ADDED_PARTS or part not in additions]
    with bundle_lock(folder):
        manifest = read_json(folder / MANIFEST, BundleError)
        if _sources(manifest, ignored) != _sources(built_from, ignored):
            names = ", ".join(about or additions)
            raise BundleError(f"{folder} was changed while its {names} was being made; run the command again")
        old_files = named_files(folder)
        created: list[Path] = []
        with undone_on_failure(folder, created):
            files = {name: entry for name, entry in manifest["files"].items() if name not in additions}
            updated = {name: value for name, value in manifest.items() if name not in about} | {"files": files}
            for part, addition in additions.items():
                if addition is not None:
                    files[part] = write_file(folder, part, addition.kind, addition.write, created)
            if any(additions.values()):
                flush_folder(folder)
            updated |= {name: dict(entry) for name, entry in about.items() if entry is not None}
            write_json(folder / MANIFEST, updated)
        sweep(folder, old_files, {entry["file"] for entry in files.values()})


def _sources(manifest: Any, ignored: Collection[str]) -> Any:
    """Return the hashes of all parts that additions are made from; None if the manifest does not have them."""
    try:
        digests = {part: entry["sha256"] for part, entry in manifest["files"].items() if part not in ignored}
        return digests if "weights" in digests else None
    except (KeyError, TypeError, AttributeError):
        return None
