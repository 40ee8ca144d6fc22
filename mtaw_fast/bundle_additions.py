"""Adding to a bundle that others are reading: the new file first, the manifest that names it last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtaw_fast.bundle_format import ADDED_PARTS, MANIFEST
from mtaw_fast.bundle_writer import bundle_lock, flush_folder, named_files, sweep, undone_on_failure, write_file
from mtaw_fast.errors import BundleError
from mtaw_fast.files import read_json, write_json


def replace_part(
    folder: Path,
    part: str,
    built_from: Mapping[str, Any],
    addition: tuple[str, Callable[[Path], None], Mapping[str, Any]] | None,
) -> None:
    """Put `part` into a live bundle in the place of an earlier one, or only take that one away (addition None).

    part: one of ADDED_PARTS. built_from: the manifest of the bundle that the part was made for. addition: (file name
    extension, a function that writes the file durably to a path, the manifest's entry about it, kept under the
    part's name).

    A reader sees the bundle with the old part or with the new one; a kill at any moment leaves one of them, a
    failure leaves the old one. Raises BundleError where the bundle was replaced since, is being written by somebody
    else, or the disk is full.
    """
    if part not in ADDED_PARTS:
        raise ValueError(f"{part!r} is no part that can be added; see ADDED_PARTS")
    with bundle_lock(folder):
        manifest = read_json(folder / MANIFEST, BundleError)
        if _catalog(manifest) != _catalog(built_from):
            raise BundleError(f"{folder} was replaced while its {part} was being made; export it again")
        old = named_files(folder)
        fresh: list[Path] = []
        with undone_on_failure(folder, fresh):
            files = {name: entry for name, entry in manifest["files"].items() if name != part}
            updated = {name: value for name, value in manifest.items() if name != part} | {"files": files}
            if addition is not None:
                kind, write, about = addition
                files[part] = write_file(folder, part, kind, write, fresh)
                flush_folder(folder)
                updated[part] = dict(about)
            write_json(folder / MANIFEST, updated)
        sweep(folder, old, {entry["file"] for entry in files.values()})


def _catalog(manifest: Any) -> Any:
    """What identifies the item vectors of a bundle; None where the manifest names none."""
    try:
        return manifest["files"]["catalog"]["sha256"]
    except (KeyError, TypeError):
        return None
