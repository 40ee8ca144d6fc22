"""Write a bundle so that a kill at any moment leaves a whole one: new files, then the manifest, then the clean-up."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast import __version__
from mtaw_fast.bundle.compact import compact_weights
from mtaw_fast.bundle.format import (
    ADDED_PARTS,
    COMPACT_VERSION,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    SERVED_PARTS,
    is_plain_name,
)
from mtaw_fast.errors import BundleError, MtawError, UsageError
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.model.checks import check_finite
from mtaw_fast.model.model import Model
from mtaw_fast.storage.files import check_writable, flush_name, folder_lock, read_json, sha256_of, write_json
from mtaw_fast.storage.tensor_file import write_tensors
from mtaw_fast.system import host

# The files that an interrupted save can leave: hashed files that no manifest names, drafts, temporary files.
_OURS = "|".join((*SERVED_PARTS, *ADDED_PARTS))
_KINDS = "safetensors|faiss|onnx|bin"
_LEFTOVER = re.compile(
    rf"({_OURS})-[0-9a-f]{{16}}\.({_KINDS})|\.+({_OURS})\.({_KINDS})\.draft.*|\.manifest\.json\..*\.tmp"
)


def refuse_existing(folder: Path, overwrite: bool = False) -> None:
    """Raise UsageError if `folder` cannot take a new bundle, BundleError if nothing can be written there.

    It is refused if it is a file, contains a manifest of another kind, or contains a bundle and `overwrite` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; choose a folder for the bundle")
    check_writable(folder, BundleError)
    manifest_path = folder / MANIFEST
    if not host.exists(manifest_path):
        return
    try:
        manifest = read_json(manifest_path, BundleError)
    except BundleError:
        manifest = {"format": FORMAT}  # a damaged manifest: overwriting repairs it
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UsageError(f"{folder} contains something other than a bundle; choose another folder")
    if not overwrite:
        raise UsageError(
            f"{folder} already contains a bundle; pass --overwrite (overwrite=True) or choose another folder"
        )


def bundle_lock(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Lock the bundle `folder` (created if missing) for writing; BundleError if another process has the lock."""
    return folder_lock(folder, BundleError)


def save_bundle(
    folder: Path,
    model: Model,
    metrics: Mapping[str, Any],
    dataset: Mapping[str, Any],
    overwrite: bool,
    about: Mapping[str, Any],
    replaced: Mapping[str, Any] | None = None,
    compact: bool = False,
) -> None:
    """See `Bundle.save`. replaced: the manifest of its `instead_of`."""
    folder = Path(os.path.realpath(folder))  # one bundle from begin to end, if a name is promoted to another meanwhile
    model.check(f"bundle {folder}")
    check_finite(f"bundle {folder}", model.weights)
    parts = _always(model, compact)
    try:
        refuse_existing(folder, overwrite)
        with bundle_lock(folder):
            refuse_existing(folder, overwrite)
            if replaced is not None and read_json(folder / MANIFEST, BundleError) != replaced:
                raise BundleError(f"{folder} was changed by another process since it was read; run the command again")
            old_files = named_files(folder)
            created: list[Path] = []
            with undone_on_failure(folder, created):
                files = {part: write_part(folder, part, arrays, created) for part, arrays in parts.items()}
                files |= _write_optional(folder, model, compact, created)
                flush_folder(folder)
                flush_name(folder)
                manifest = {
                    **about,
                    "format": FORMAT,
                    "format_version": COMPACT_VERSION if compact else FORMAT_VERSION,
                    "config": model.config.as_dict(),
                    "n_items": model.n_items,
                    "d": model.config.model.embedding_dim,
                    "parameters": sum(array.size for array in model.weights.values()),
                    "metrics": dict(metrics),
                    "dataset": dict(dataset),
                    "git_commit": _commit(),
                    "versions": _versions(),
                    "created": _now(),
                    "files": files,
                }
                write_json(folder / MANIFEST, manifest)
            sweep(folder, old_files, {entry["file"] for entry in files.values()})
    except OSError as error:
        raise BundleError(f"cannot write the bundle {folder}: {error.strerror or error}; check the disk") from None


def _always(model: Model, compact: bool) -> dict[str, Mapping[str, np.ndarray]]:
    """Return the arrays of the parts that every bundle has."""
    parts: dict[str, Mapping[str, np.ndarray]] = {
        "weights": compact_weights(model) if compact else model.weights,
        "items": model.ids.arrays,
        "popularity": {"popularity": model.popularity, "most_clicked": model.most_clicked},
    }
    if not compact:
        parts["catalog"] = {"catalog": model.item_vectors}
        parts["scan"] = quantize(model.item_vectors) if model.scan is None else model.scan
    return parts


def _write_optional(folder: Path, model: Model, compact: bool, created: list[Path]) -> dict[str, dict[str, Any]]:
    """Write the parts that only some models have; return their entries in the manifest."""
    arrays: dict[str, Mapping[str, np.ndarray]] = {}
    writers: dict[str, Callable[[Path], object]] = {}
    if model.memory is not None and model.ranker_net is not None:
        writers["memory"] = model.memory.save
        writers["ranker"] = model.ranker_net.save
    if model.trends is not None:
        writers["trends"] = model.trends.save
    if model.log_progress is not None:
        writers["learned"] = model.log_progress.save
    for part, stored in (("item_table", model.items), ("content", model.content), ("context", model.context)):
        if stored is not None:
            arrays[part] = stored.arrays()
    if not compact:
        if model.clicked_at is not None:
            arrays["times"] = {"times": model.clicked_at}
        if model.types is not None:
            arrays["types"] = {"types": model.types}
    files = {part: write_file(folder, part, "safetensors", save, created) for part, save in writers.items()}
    return files | {part: write_part(folder, part, tensors, created) for part, tensors in arrays.items()}


def _now() -> str:
    return datetime.datetime.fromtimestamp(host.time_ns() // 1_000_000_000, datetime.UTC).isoformat()


@contextlib.contextmanager
def undone_on_failure(folder: Path, created: list[Path]) -> Iterator[None]:
    """Remove the files `created` on any failure; a full disk becomes a BundleError.

    If the manifest was already replaced, the files stay. The caller has the folder's `bundle_lock`.
    """
    state = _manifest_identity(folder)
    try:
        yield
    except BaseException as error:
        if _manifest_identity(folder) == state:
            for path in created:
                with contextlib.suppress(OSError):  # the error that is raised says more
                    host.unlink(path, missing_ok=True)
        if isinstance(error, OSError):
            raise BundleError(f"cannot write the bundle {folder}: {error.strerror}; free some space") from None
        if type(error) is MtawError:  # from atomic_path: the disk
            raise BundleError(str(error)) from None
        raise


def write_part(folder: Path, part: str, arrays: Mapping[str, np.ndarray], created: list[Path]) -> dict[str, Any]:
    """Write the arrays of one part; see `write_file`."""
    return write_file(folder, part, "safetensors", lambda path: write_tensors(path, arrays), created)


def write_file(
    folder: Path, part: str, kind: str, write: Callable[[Path], object], created: list[Path]
) -> dict[str, Any]:
    """Write one file (by `write`, durably) under its content-hashed name and return the manifest's entry for it.

    Paths that did not exist before are appended to `created`.
    """
    draft = folder / f".{part}.{kind}.draft"
    created.append(draft)
    write(draft)
    digest = sha256_of(draft)
    path = folder / hashed_name(part, digest, kind)
    existed = host.exists(path)
    host.rename(draft, path)  # also over an equal file of the old bundle: that one may be damaged
    created[-1:] = [] if existed else [path]
    return {"file": path.name, "sha256": digest, "bytes": host.status(path).st_size}


def hashed_name(part: str, digest: str, kind: str) -> str:
    """Return the name that `write_file` gives a file with the SHA-256 `digest` (hex)."""
    return f"{part}-{digest[:16]}.{kind}"


def flush_folder(folder: Path) -> None:
    """Make the new file names durable before the manifest that contains them."""
    descriptor = host.open_file(folder, os.O_RDONLY)
    try:
        host.fsync(descriptor)
    finally:
        host.close(descriptor)


def _manifest_identity(folder: Path) -> object:
    """Return a value that changes when the manifest of `folder` is replaced.

    It is None without a manifest, and a unique object if the file cannot be examined. It opens no file: the failure may
    be that no file can be opened.
    """
    try:
        status = host.status(folder / MANIFEST)
    except FileNotFoundError:
        return None
    except OSError:
        return object()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def named_files(folder: Path) -> set[str]:
    """Return the files that the manifest in `folder` names; none if there is no readable one."""
    try:
        manifest = read_json(folder / MANIFEST, BundleError)
        names = [entry["file"] for entry in manifest["files"].values()]
    except (BundleError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if is_plain_name(name) and name != MANIFEST}


def sweep(folder: Path, old: set[str], new: set[str]) -> None:
    """Remove the old bundle's files and the leftovers of interrupted saves; other files stay.

    Readers that have an old file mapped keep it: its bytes are freed with the last mapping.
    """
    for path in host.listing(folder):
        if path.name not in new and (path.name in old or _LEFTOVER.fullmatch(path.name)):
            # The new bundle is whole already; a file that cannot be removed is left to the next save.
            with contextlib.suppress(OSError):
                host.unlink(path)


def _commit() -> str | None:
    """Return the git commit of this checkout, with '-dirty' if tracked files differ; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root:
        return None  # installed inside somebody else's repository
    return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"mtaw_fast": __version__, "python": platform.python_version()}
    for package in ("numpy", "torch"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
