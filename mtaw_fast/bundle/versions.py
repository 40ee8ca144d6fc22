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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.storage.files import folder_lock, read_json, remove_temporary, write_bytes

CURRENT, HISTORY = "current", "promotions.jsonl"
_METRICS = ("P@20", "MRR@20")
_ENTRY = {"time": str, "bundle": str, "version": str, "back": bool}  # of a line of the history


@dataclass(frozen=True, slots=True)
class BundleVersion:
    """One bundle of a folder.

    name: of its folder. version: 16 hex digits, as the service's answers name it. created, promoted: when it was
    written and last promoted, ISO 8601. metrics: P@20 and MRR@20 on its validation sessions, in percent, where the
    training measured them. current: whether the name `current` points to it.
    """

    name: str
    version: str
    created: str
    items: int
    metrics: Mapping[str, float]
    dataset: str
    current: bool
    promoted: str | None


def version_of(manifest: Mapping[str, Any]) -> str:
    """Return 16 hex digits that identify a manifest, and so every file of its bundle."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions_in(folder: Path) -> list[BundleVersion]:
    """Return the bundles in a folder, the newest first. Raises UsageError if there is none."""
    current = current_in(folder)
    promoted = {entry["bundle"]: entry["time"] for entry in _history(folder, current)}
    versions = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_symlink() or not (path / MANIFEST).is_file():
            continue
        manifest = read_json(path / MANIFEST, BundleError)
        if not isinstance(manifest, dict) or manifest.get("format") != "mtaw_fast bundle":
            continue
        try:
            versions.append(_version(path.name, manifest, current, promoted.get(path.name)))
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            raise BundleError(f"{path / MANIFEST} is damaged ({error}); restore the bundle or move it away") from None
    if not versions:
        raise UsageError(
            f"{folder} holds no bundle; train into it, as in 'mtaw-fast train shop.dataset {folder}/2026-11-28.bundle'"
        )
    return sorted(versions, key=lambda version: version.created, reverse=True)


def _version(name: str, manifest: Mapping[str, Any], current: str | None, promoted: str | None) -> BundleVersion:
    measured = manifest.get("metrics", {})
    validation = measured.get("validation", measured)
    return BundleVersion(
        name=name, version=version_of(manifest), created=str(manifest.get("created", "")),
        items=int(manifest.get("n_items", 0)),
        metrics={metric: validation[metric] for metric in _METRICS if isinstance(validation.get(metric), (int, float))},
        dataset=str(manifest.get("dataset", {}).get("name", "")), current=name == current, promoted=promoted,
    )  # fmt: skip


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
    if name == CURRENT or Path(name).name != name or not (folder / name / MANIFEST).is_file():
        names = ", ".join(version.name for version in versions_in(folder))
        raise UsageError(f"{folder} has no bundle {name!r}; it has {names}")
    old_name = current_in(folder)
    _point_to(folder, name)
    return old_name


def roll_back(folder: Path) -> tuple[str, str]:
    """Promote the bundle that was current before the current one; return the names of both, the old one first.

    Repeated, it goes further back. Raises UsageError if there is none, BundleError if it is damaged, or if another
    bundle is promoted meanwhile.
    """
    current = current_in(folder)
    stack = _stack(_history(folder, current))
    while stack and stack[-1] != current:  # the name was changed by hand
        stack.pop()
    if current is None or len(stack) < 2:
        raise UsageError(f"{folder} has no bundle from before the current one; promote one by name")
    _point_to(folder, stack[-2], back_from=current)
    return current, stack[-2]


def _point_to(folder: Path, name: str, back_from: str | None = None) -> None:
    """Verify a bundle, note it in the history, and then change the name in one step.

    back_from: for a step back, the bundle that is current.
    """
    version = version_of(Bundle.load(folder / name).manifest)
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with folder_lock(folder, BundleError):
        if back_from is not None and current_in(folder) != back_from:
            raise BundleError(f"{folder / CURRENT} was changed by another process meanwhile; run the command again")
        entries = [
            *_history(folder, current_in(folder)),
            {"time": now, "bundle": name, "version": version, "back": back_from is not None},
        ]
        remove_temporary(folder, HISTORY)  # and drafts of `current`: of promotions that were killed
        for left in folder.glob(f".{CURRENT}-*"):
            left.unlink()
        write_bytes(folder / HISTORY, "".join(json.dumps(entry) + "\n" for entry in entries).encode())
        draft = folder / f".{CURRENT}-{os.getpid()}"
        draft.symlink_to(name)
        draft.replace(folder / CURRENT)


def _history(folder: Path, current: str | None) -> list[dict[str, Any]]:
    """Return the promotions that came to their last step: all, or all but the last one.

    The last one was killed before that step if the name still is what it was before.
    """
    path = folder / HISTORY
    entries = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):  # a line that was cut off or damaged
            entry = json.loads(line)
            if isinstance(entry, dict) and all(type(entry.get(key)) is kind for key, kind in _ENTRY.items()):
                entries.append(entry)
    now = [] if current is None else [current]
    is_undone = _stack(entries)[-1:] != now and _stack(entries[:-1])[-1:] == now
    return entries[:-1] if is_undone else entries


def _stack(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the bundle that the last of some promotions made current, and before it those to go back to."""
    stack: list[str] = []
    for entry in entries:
        if entry["back"]:
            stack = stack[: max(1, len(stack) - 1)]
        elif stack[-1:] != [entry["bundle"]]:
            stack.append(entry["bundle"])
    return stack
