"""A folder of bundle versions, and the one name that says which of them is served.

    shop/2026-11-27.bundle
    shop/2026-11-28.bundle
    shop/current -> 2026-11-28.bundle
    shop/promotions.jsonl       one line for each promotion, the last one last

A service that serves `shop/current` follows the name: it looks at the manifest behind it, and loads another one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.storage.files import read_json

CURRENT, HISTORY = "current", "promotions.jsonl"
_METRICS = ("P@20", "MRR@20")


@dataclass(frozen=True, slots=True)
class BundleVersion:
    """One bundle of a folder.

    Attributes
    ----------
    name : str
        Its folder's name.
    version : str
        16 hex digits, as the service's answers name it.
    created : str
        When it was written, ISO 8601.
    items : int
        Of its catalog.
    metrics : mapping of str to float
        P@20 and MRR@20 on its validation sessions, in percent, where the training measured them.
    dataset : str
        Name of its data set.
    current : bool
        Whether the name `current` points to it.
    promoted : str or None
        When it was last promoted.
    """

    name: str
    version: str
    created: str
    items: int
    metrics: Mapping[str, float]
    dataset: str
    current: bool
    promoted: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def version_of(manifest: Mapping[str, Any]) -> str:
    """Return 16 hex digits that identify a manifest, and so every file of its bundle."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions_in(folder: Path) -> list[BundleVersion]:
    """Return the bundles in a folder, the newest first. Raises UsageError if there is none."""
    current, promoted = current_in(folder), {entry["bundle"]: entry["time"] for entry in _history(folder)}
    versions = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not (path / MANIFEST).is_file():
            continue
        manifest = read_json(path / MANIFEST, BundleError)
        if not isinstance(manifest, dict) or manifest.get("format") != "mtaw_fast bundle":
            continue
        measured = manifest.get("metrics", {})
        validation = measured.get("validation", measured)
        metrics = {name: validation[name] for name in _METRICS if isinstance(validation.get(name), (int, float))}
        versions.append(
            BundleVersion(
                name=path.name, version=version_of(manifest), created=str(manifest.get("created", "")),
                items=int(manifest.get("n_items", 0)), metrics=metrics,
                dataset=str(manifest.get("dataset", {}).get("name", "")), current=path.name == current,
                promoted=promoted.get(path.name),
            )
        )  # fmt: skip
    if not versions:
        raise UsageError(
            f"{folder} holds no bundle; train into it, as in 'mtaw-fast train shop.dataset {folder}/2026-11-28.bundle'"
        )
    return sorted(versions, key=lambda version: version.created, reverse=True)


def current_in(folder: Path) -> str | None:
    """Return the name of the bundle that `current` points to; None without one.

    Raises UsageError if `current` is not a symlink that `promote` made.
    """
    link = folder / CURRENT
    if not link.is_symlink():
        if link.exists():
            raise UsageError(f"{link} is not a symlink; move it away, then promote a bundle")
        return None
    return link.readlink().name


def promote(folder: Path, name: str) -> str | None:
    """Let `current` point to a bundle; return the name that it pointed to before.

    The bundle is verified first. The name changes in one step: whoever opens it finds the old bundle or the new one.

    Raises
    ------
    UsageError
        If the folder has no such bundle.
    BundleError
        If it is damaged.
    """
    if Path(name).name != name or not (folder / name / MANIFEST).is_file():
        names = ", ".join(version.name for version in versions_in(folder))
        raise UsageError(f"{folder} has no bundle {name!r}; it has {names}")
    old_name = current_in(folder)
    _point_to(folder, name, back=False)
    return old_name


def roll_back(folder: Path) -> tuple[str, str]:
    """Promote the bundle that was current before the current one; return the names of both, the old one first.

    Repeated, it goes further back. Raises UsageError if there is none, BundleError if it is damaged.
    """
    current, stack = current_in(folder), list[str]()
    for entry in _history(folder):
        if entry["back"]:
            stack = stack[: max(1, len(stack) - 1)]
        elif stack[-1:] != [entry["bundle"]]:
            stack.append(entry["bundle"])
    while stack and stack[-1] != current:  # a promotion that did not come to its last step
        stack.pop()
    if current is None or len(stack) < 2:
        raise UsageError(f"{folder} has no bundle from before the current one; promote one by name")
    _point_to(folder, stack[-2], back=True)
    return current, stack[-2]


def _point_to(folder: Path, name: str, back: bool) -> None:
    """Verify a bundle, note it in the history, and then change the name in one step."""
    version = version_of(Bundle.load(folder / name).manifest)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = json.dumps({"time": now, "bundle": name, "version": version, "back": back}) + "\n"
    with (folder / HISTORY).open("ab+") as file:
        size = file.tell()
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":  # a kill or a full disk cut the last line off
            file.write(b"\n")
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())
    draft = folder / f".{CURRENT}-{os.getpid()}"
    draft.unlink(missing_ok=True)
    draft.symlink_to(name)
    draft.replace(folder / CURRENT)


def _history(folder: Path) -> list[dict[str, Any]]:
    path = folder / HISTORY
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # a line that was cut off: its promotion did not come to its last step
            entries.append(json.loads(line))
    return entries
