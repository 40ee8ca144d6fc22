"""Read a bundle: the manifest first, then every part that it names; all of it is checked before use."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle.compact import with_derived
from mtaw_fast.bundle.format import (
    CONTENT_PARTS,
    FORMAT,
    ITEM_PARTS,
    MANIFEST,
    OPTIONAL_PARTS,
    PARTS,
    READABLE_VERSIONS,
    SERVED_PARTS,
    is_plain_name,
    required_parts,
)
from mtaw_fast.config import Config
from mtaw_fast.data.context import ClickContext
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError, DataError, UsageError, shown
from mtaw_fast.items import ContentVectors, ItemTable
from mtaw_fast.kernels.native.scan import Scanner, check_quantized
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.checks import RETRAIN, check_array, check_finite, check_memory, check_weights
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.model import Model
from mtaw_fast.storage.files import open_regular, read_json, sha256_of
from mtaw_fast.storage.sealed_file import SealedFile
from mtaw_fast.storage.tensor_file import map_tensors, open_sealed_tensors
from mtaw_fast.system import host
from mtaw_fast.system.cpus import usable_cpus

_ATTEMPTS = 5  # if the bundle is replaced during a read, the read starts again with the new manifest
_TOLERANCE = 1e-6  # a vector's length is a sum, whose order differs between CPUs
_ROWS = 4096  # in a part of another model nearly every row differs, so a sample is enough


def read_bundle(folder: Path, verify: bool, mapping: str | None) -> tuple[dict[str, Any], Model]:
    """Read the manifest in `folder` and the model that it names; see `Bundle.load`."""
    for attempt in range(_ATTEMPTS + 1):
        stamp = _file_identity(folder / MANIFEST)
        manifest = read_manifest(folder)
        try:
            return manifest, _read_model(folder, manifest, verify, mapping)
        except BundleError:
            # Try again only if the bundle was replaced meanwhile.
            if attempt == _ATTEMPTS or _file_identity(folder / MANIFEST) == stamp:
                raise
    raise AssertionError("the last attempt returns or raises")


def _file_identity(path: Path) -> tuple[int, int] | None:
    """Return inode and time of a file: they change when it is replaced, even by an equal one. None without a file."""
    try:
        status = host.status(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class LaterFormatError(BundleError):
    """A bundle of a format that only a later release reads."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a bundle's manifest alone. Raises BundleError if the folder has none, or one of another format."""
    manifest = read_json(
        folder / MANIFEST, lambda reason: BundleError(f"{reason}; is {folder} a folder made by 'mtaw-fast train'?")
    )
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{folder} is not a bundle; make one with 'mtaw-fast train'")
    version = manifest.get("format_version")
    if version not in READABLE_VERSIONS:
        later = type(version) is int and version > max(READABLE_VERSIONS)
        raise (LaterFormatError if later else BundleError)(
            f"{folder} has bundle format {shown(version)}, this release reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}; upgrade mtaw-fast or {RETRAIN}"
        )
    return manifest


def _read_model(folder: Path, manifest: dict[str, Any], verify: bool, mapping: str | None) -> Model:
    where = str(folder / MANIFEST)
    files = _files_of(where, manifest)
    config, n_items = _config_of(where, manifest)
    with _bundle_errors():  # these errors name the file
        opened = _open_files(folder, files, verify, mapping)
        arrays = {
            part: map_tensors(opened[part])
            for part in (*PARTS, *OPTIONAL_PARTS, *ITEM_PARTS, *CONTENT_PARTS, "times", "types")
            if part in opened
        }
        memory = MemoryTables.load(opened["memory"]) if "memory" in opened else None
        ranker_net = RankerNet.load(opened["ranker"]) if "ranker" in opened else None
    check_memory(str(folder), memory, ranker_net, n_items)
    weights, rows = with_derived(arrays["weights"], arrays.get("catalog"))
    check_weights(str(folder), weights, config, n_items)
    shape = (n_items, config.model.embedding_dim)
    item_vectors = check_array(str(folder), "catalog", rows, np.float32, shape)
    clicks = arrays["popularity"].get("popularity")
    popularity = check_array(str(folder), "popularity", clicks, np.int64, (n_items,))
    most_clicked = _most_clicked(folder, arrays["popularity"], verify)
    scan = arrays.get("scan")
    with _bundle_errors(f"{folder}: "):
        if scan is not None:
            check_quantized(scan, n_items, config.model.embedding_dim)
        ids = ItemIds(arrays["items"])
        log_progress = LogProgress.load(opened["learned"]) if "learned" in opened else None
        if log_progress is not None:
            log_progress.check(n_items, 0 if memory is None else memory.n_sessions)
        trends = TrendTables.load(opened["trends"]) if "trends" in opened else None
        items = ItemTable.of(arrays["item_table"]) if "item_table" in arrays else None
        content = ContentVectors.of(arrays["content"]) if "content" in arrays else None
        context = ClickContext.of_arrays(map_tensors(opened["context"])) if "context" in opened else None
    if len(ids) != n_items:
        raise BundleError(f"{folder} has {len(ids)} item ids for {n_items} items; {RETRAIN}")
    model = Model(
        config, weights, ids, popularity, item_vectors, most_clicked, scan, memory, ranker_net, log_progress,
        arrays.get("times", {}).get("times"), trends, items, content, context,
        arrays.get("types", {}).get("types"),
    )  # fmt: skip
    model.check(str(folder))
    if verify:
        _verify(str(folder), model)
    return model


@contextlib.contextmanager
def _bundle_errors(prefix: str = "") -> Iterator[None]:
    """Raise what is wrong with a part as a BundleError."""
    try:
        yield
    except (DataError, ValueError) as error:
        raise BundleError(f"{prefix}{error}") from None


def _verify(where: str, model: Model) -> None:
    """Raise BundleError if values of a model, whose shapes fit, are not finite, no ids, or of another model."""
    check_finite(where, {**model.weights, "catalog": model.item_vectors})
    rows = np.unique(np.linspace(0, model.n_items - 1, min(model.n_items, _ROWS)).astype(np.int64))
    expected = normalized(model.weights["item_embedding"][rows])
    with _bundle_errors(f"{where}: "):
        model.ids.check()
        if np.abs(expected - model.item_vectors[rows]).max() > _TOLERANCE:
            raise DataError(f"its 'catalog' is of another model than its 'weights'; restore it or {RETRAIN}")
        if model.scan is not None:
            Scanner(model.item_vectors, model.scan)  # checks codes and rows itself


def _files_of(where: str, manifest: dict[str, Any]) -> dict[str, _File]:
    """Return the file of each part. where: names the manifest in errors."""
    try:
        files = {
            part: _File(entry["file"], str(entry["sha256"]), entry.get("bytes"))
            for part, entry in manifest["files"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(where, error) from None
    for part in required_parts(manifest["format_version"]):
        if part not in files:
            raise BundleError(f"{where} names no '{part}' file; {RETRAIN}")
    for part, file in files.items():
        if not is_plain_name(file.name):
            raise BundleError(
                f"{where}: the {shown(part)} file is named by a path ({shown(file.name)}); do not trust this bundle"
            )
        if file.size is not None and (type(file.size) is not int or file.size < 0):
            raise BundleError(f"{where} states {shown(file.size)} bytes for {shown(part)}; {RETRAIN}")
    return files


def _config_of(where: str, manifest: dict[str, Any]) -> tuple[Config, int]:
    """Return the settings and the number of items. where: as in `_files_of`."""
    try:
        n_items, d, values = manifest["n_items"], manifest["d"], dict(manifest["config"])
        dict(manifest["metrics"]), dict(manifest["dataset"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(where, error) from None
    try:
        config = Config.from_dict(values)
    except UsageError as error:
        raise BundleError(f"{where}: {error}; upgrade mtaw-fast or {RETRAIN}") from None
    if type(n_items) is not int or n_items < 1 or d != config.model.embedding_dim:
        raise BundleError(f"{where} contradicts itself (n_items {shown(n_items)}, d {shown(d)}); {RETRAIN}")
    return config, n_items


def _damaged(where: str, error: Exception) -> BundleError:
    return BundleError(f"{where} is damaged ({type(error).__name__}: {error}); {RETRAIN}")


def _most_clicked(folder: Path, arrays: Mapping[str, np.ndarray], verify: bool) -> np.ndarray:
    """Return the items by popularity."""
    popularity = arrays["popularity"]
    order = check_array(str(folder), "most_clicked", arrays.get("most_clicked"), np.int32, popularity.shape)
    if order.min() < 0 or order.max() >= len(order) or (verify and not _descends(popularity[order], order)):
        raise BundleError(f"{folder}: 'most_clicked' is not the order of 'popularity'; {RETRAIN}")
    return order


def _descends(clicks: np.ndarray, ids: np.ndarray) -> bool:
    """Return whether clicks int64[N] descend and equal ones have ascending ids; then no id occurs twice."""
    less = clicks[1:] < clicks[:-1]
    return bool((less | ((clicks[1:] == clicks[:-1]) & (ids[1:] > ids[:-1]))).all())


@dataclass(frozen=True, slots=True)
class _File:
    """A file as named by a manifest."""

    name: str
    digest: str
    size: int | None


def _open_files(folder: Path, files: Mapping[str, _File], verify: bool, mapping: str | None) -> dict[str, SealedFile]:
    """Open the files that serving needs, by part.

    Every file of the manifest is checked to exist with its size and, with `verify`, its hash (in parallel threads).
    The hash is that of the opened bytes, not of a file that may have changed since. Raises DataError naming the first
    file that is wrong.
    """

    def open_one(part: str) -> SealedFile | None:
        file = files[part]
        path = folder / file.name
        if part not in SERVED_PARTS:
            os.close(open_regular(path, DataError, file.size))
        sealed = open_sealed_tensors(path, size=file.size, mapping=mapping) if part in SERVED_PARTS else None
        if verify:
            digest = sha256_of(path) if sealed is None else hashlib.sha256(sealed.data.data).hexdigest()
            if file.digest != digest:
                raise DataError(f"{path} is damaged (its SHA-256 differs); restore it or {RETRAIN}")
        return sealed

    with host.pool(min(len(files), usable_cpus())) as pool:
        opened = zip(files, pool.map(open_one, files), strict=True)
        return {part: sealed for part, sealed in opened if sealed is not None}
