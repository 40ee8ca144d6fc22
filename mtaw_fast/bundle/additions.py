"""Adding to a bundle that others are reading: the new files first, the manifest that names them last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.format import ADDED_PARTS, MANIFEST
from mtaw_fast.bundle.writer import bundle_lock, flush_folder, named_files, sweep, undone_on_failure, write_file
from mtaw_fast.errors import BundleError
from mtaw_fast.storage.files import read_json, write_json


@dataclass(frozen=True, slots=True)
class Addition:
    """A file to add. kind: the extension of its name. write: writes it durably to a path."""

    kind: str
    write: Callable[[Path], None]


def replace_part(
    folder: Path,
    part: str,
    built_from: Mapping[str, Any],
    addition: tuple[str, Callable[[Path], None], Mapping[str, Any]] | None,
) -> None:
    """`replace_parts` for a single one; addition: (kind, write, the manifest's entry about it, under the part's name),
    or None to take the part away."""
    if addition is None:
        replace_parts(folder, built_from, {part: None}, {part: None})
    else:
        kind, write, about = addition
        replace_parts(folder, built_from, {part: Addition(kind, write)}, {part: dict(about)})


def replace_parts(
    folder: Path,
    built_from: Mapping[str, Any],
    additions: Mapping[str, Addition | None],
    about: Mapping[str, Mapping[str, Any] | None],
) -> None:
    """Put parts into a live bundle in the place of earlier ones, all at once; None takes a part away.

    built_from: the manifest of the bundle that they were made for. additions: by part, each of ADDED_PARTS. about: the
    manifest's entries about them, by the entry's name.

    A reader sees the bundle with all old parts or with all new ones; a kill at any moment leaves one of them, a
    failure leaves the old one. Raises BundleError where the bundle was replaced since, is being written by somebody
    else, or the disk is full.
    """
    for part in additions:
        if part not in ADDED_PARTS:
            raise ValueError(f"{part!r} is no part that can be added; see ADDED_PARTS")
    with bundle_lock(folder):
        manifest = read_json(folder / MANIFEST, BundleError)
        if _model(manifest) != _model(built_from):
            what = ", ".join(about)
            raise BundleError(f"{folder} was replaced while its {what} was being made; export it again")
        old = named_files(folder)
        fresh: list[Path] = []
        with undone_on_failure(folder, fresh):
            files = {name: entry for name, entry in manifest["files"].items() if name not in additions}
            updated = {name: value for name, value in manifest.items() if name not in about} | {"files": files}
            for part, addition in additions.items():
                if addition is not None:
                    files[part] = write_file(folder, part, addition.kind, addition.write, fresh)
            if any(additions.values()):
                flush_folder(folder)
            updated |= {name: dict(entry) for name, entry in about.items() if entry is not None}
            write_json(folder / MANIFEST, updated)
        sweep(folder, old, {entry["file"] for entry in files.values()})


def _model(manifest: Any) -> Any:
    """What identifies all of a bundle that additions are made from; None where the manifest does not name it."""
    try:
        own = {part: entry["sha256"] for part, entry in manifest["files"].items() if part not in ADDED_PARTS}
        return own if "weights" in own else None
    except (KeyError, TypeError, AttributeError):
        return None
