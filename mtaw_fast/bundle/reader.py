"""Reading a bundle: the manifest first, then every part that it names, checked before anything follows it."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle.format import FORMAT, MANIFEST, OPTIONAL_PARTS, PARTS, READABLE_VERSIONS, is_plain_name
from mtaw_fast.config import Config
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError, DataError, UsageError, shown
from mtaw_fast.kernels.native.scan import check_quantised
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.checks import check_array, check_finite, check_memory, check_weights
from mtaw_fast.model.model import Model, most_clicked_first
from mtaw_fast.storage.cpus import usable_cpus
from mtaw_fast.storage.files import read_json, sha256_of
from mtaw_fast.storage.tensorfile import map_tensors

_ATTEMPTS = 5  # a reader that meets a bundle in mid-replacement starts again with the new manifest


def read_bundle(folder: Path, verify: bool) -> tuple[dict[str, Any], Model]:
    """The manifest in `folder` and the model that it names, mapped; see `Bundle.load`."""
    manifest = _read_manifest(folder)
    for _ in range(_ATTEMPTS):
        try:
            return manifest, _read_model(folder, manifest, verify)
        except BundleError:
            # Only a bundle that was replaced meanwhile is worth another try.
            current = _read_manifest(folder)
            if current == manifest:
                raise
            manifest = current
    return manifest, _read_model(folder, manifest, verify)


def _read_manifest(folder: Path) -> dict[str, Any]:
    manifest = read_json(
        folder / MANIFEST, lambda why: BundleError(f"{why}; is {folder} a folder made by 'mtaw-fast train'?")
    )
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BundleError(f"{folder} is not a bundle; make one with 'mtaw-fast train'")
    version = manifest.get("format_version")
    if version not in READABLE_VERSIONS:
        raise BundleError(
            f"{folder} has bundle format {shown(version)}, this release reads "
            f"{' and '.join(map(str, READABLE_VERSIONS))}; upgrade mtaw-fast or train the bundle anew"
        )
    return manifest


def _read_model(folder: Path, manifest: dict[str, Any], verify: bool) -> Model:
    where = str(folder / MANIFEST)
    try:
        digests = {part: (entry["file"], str(entry["sha256"])) for part, entry in manifest["files"].items()}
        n_items, d, values = manifest["n_items"], manifest["d"], dict(manifest["config"])
        dict(manifest["metrics"]), dict(manifest["dataset"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{where} is damaged ({type(error).__name__}: {error}); train the bundle anew") from None
    try:
        config = Config.from_dict(values)
    except UsageError as error:
        raise BundleError(f"{where}: {error}; upgrade mtaw-fast or train the bundle anew") from None
    if type(n_items) is not int or n_items < 1 or d != config.d:
        raise BundleError(f"{where} contradicts itself (n_items {shown(n_items)}, d {shown(d)}); train the bundle anew")
    for part in PARTS:
        if part not in digests:
            raise BundleError(f"{where} names no '{part}' file; train the bundle anew")
    for part, (name, _) in digests.items():
        if not is_plain_name(name):
            raise BundleError(
                f"{where}: the {shown(part)} file has a path for a name ({shown(name)}); do not trust this bundle"
            )
    _check_files(folder, digests.values(), verify)
    arrays = {part: _arrays(folder / digests[part][0]) for part in (*PARTS, *OPTIONAL_PARTS) if part in digests}
    check_weights(str(folder), arrays["weights"], config, n_items)
    item_vectors = check_array(
        str(folder), "catalog", arrays["catalog"].get("catalog"), np.float32, (n_items, config.d)
    )
    clicks = arrays["popularity"].get("popularity")
    popularity = check_array(str(folder), "popularity", clicks, np.int64, (n_items,))
    most_clicked = _most_clicked(folder, arrays["popularity"], verify)
    scan = arrays.get("scan")
    try:
        if scan is not None:
            check_quantised(scan, n_items, config.d)
    except ValueError as error:
        raise BundleError(f"{folder}: {error}") from None
    try:
        ids = ItemIds(arrays["items"])
    except DataError as error:
        raise BundleError(f"{folder}: {error}") from None
    if len(ids) != n_items:
        raise BundleError(f"{folder} has {len(ids)} item ids for {n_items} items; train the bundle anew")
    if verify:
        check_finite(str(folder), {**arrays["weights"], "catalog": item_vectors})
    memory, ranker_net = _memory(folder, digests, n_items)
    return Model(config, arrays["weights"], ids, popularity, item_vectors, most_clicked, scan, memory, ranker_net)


def _memory(
    folder: Path, digests: Mapping[str, tuple[str, str]], n_items: int
) -> tuple[MemoryTables | None, RankerNet | None]:
    """The session memory's tables and ranker; neither where the bundle has none."""
    try:
        memory = MemoryTables.load(folder / digests["memory"][0]) if "memory" in digests else None
        ranker_net = RankerNet.load(folder / digests["ranker"][0]) if "ranker" in digests else None
    except DataError as error:
        raise BundleError(str(error)) from None
    check_memory(str(folder), memory, ranker_net, n_items)
    return memory, ranker_net


def _most_clicked(folder: Path, arrays: Mapping[str, np.ndarray], verify: bool) -> np.ndarray:
    """The items by popularity: the bundle's, or made here where an older one lacks it."""
    popularity, order = arrays["popularity"], arrays.get("most_clicked")
    if order is None:
        return most_clicked_first(popularity)
    check_array(str(folder), "most_clicked", order, np.int32, popularity.shape)
    if order.min() < 0 or order.max() >= len(order) or (verify and not _descends(popularity[order], order)):
        raise BundleError(f"{folder}: 'most_clicked' is not the order of 'popularity'; train the bundle anew")
    return order


def _descends(clicks: np.ndarray, ids: np.ndarray) -> bool:
    """Whether clicks int64[N] fall and equal ones go by rising id: no id can then stand there twice."""
    falls = clicks[1:] < clicks[:-1]
    return bool((falls | ((clicks[1:] == clicks[:-1]) & (ids[1:] > ids[:-1]))).all())


def _check_files(folder: Path, digests: Any, verify: bool) -> None:
    """Raise BundleError on a missing file and, with `verify`, on one whose hash differs (in parallel threads)."""
    wanted = {folder / name: digest for name, digest in digests}
    for path in wanted:
        try:
            there = path.is_file()
        except OSError as error:  # a name too long, say
            raise BundleError(f"cannot read {path}: {error.strerror}; restore it or train the bundle anew") from None
        if not there:
            raise BundleError(f"{path} is missing; restore it or train the bundle anew")
    if not verify:
        return
    with ThreadPoolExecutor(max_workers=min(len(wanted), usable_cpus())) as pool:
        for path, digest in zip(wanted, pool.map(_hash, wanted), strict=True):
            if digest != wanted[path]:
                raise BundleError(f"{path} is damaged (its SHA-256 differs); restore it or train the bundle anew")


def _hash(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror}; restore it or train the bundle anew") from None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        return map_tensors(path)
    except DataError as error:
        raise BundleError(str(error)) from None
