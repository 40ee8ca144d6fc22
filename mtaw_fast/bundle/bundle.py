"""A trained model in a folder: everything that serving needs, mapped into memory and shared by processes.

    manifest.json                   what it is, how it was made, the SHA-256 of every file
    weights-<hash>.safetensors      the model's arrays, float32
    catalog-<hash>.safetensors      float32[N, d] L2-normalised item embeddings
    items-<hash>.safetensors        the external ids
    popularity-<hash>.safetensors   int64[N] clicks of each item in the training sessions; int32[N] the items by them
    scan-<hash>.safetensors         the catalog's int8 codes for the exact scanner; older bundles have none
    memory-<hash>.safetensors       tables of the session memory, and
    ranker-<hash>.safetensors       its ranker: where the model was trained with one
    index-<hash>.faiss, encoder-<hash>.onnx, ..     what export adds (`bundle_format.ADDED_PARTS`)

The manifest is replaced last and atomically, so a reader sees the old bundle or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle.format import (
    FORMAT,
    MANIFEST,
    OPTIONAL_PARTS,
    PARTS,
    READABLE_VERSIONS,
    check_array,
    check_finite,
    check_memory,
    check_weights,
    is_plain_name,
    most_clicked_first,
)
from mtaw_fast.bundle.writer import bundle_lock, refuse_existing, save_bundle
from mtaw_fast.config import Config
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError, DataError, UsageError, shown
from mtaw_fast.kernels.native.scan import check_quantised
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.storage.files import read_json, sha256_of
from mtaw_fast.storage.tensorfile import map_tensors

__all__ = ["Bundle", "bundle_lock", "refuse_existing"]

_ATTEMPTS = 5  # a reader that meets a bundle in mid-replacement starts again with the new manifest


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A loaded bundle; every array is a read-only memory map.

    weights: the arrays of `bundle_format.parameter_shapes`, float32. catalog: float32[N, d], rows of
    length 1 (or 0). ids: external ids of the N items. popularity: int64[N]. most_clicked: int32[N] internal ids, most
    clicks first, equal ones in id order. scan: the arrays of `kernels.native.scan.quantise`, or None where the bundle
    has no such part. memory, ranker: of a model with a session memory, else None. manifest: as read.
    """

    folder: Path
    manifest: Mapping[str, Any]
    config: Config
    weights: Mapping[str, np.ndarray]
    catalog: np.ndarray
    ids: ItemIds
    popularity: np.ndarray
    most_clicked: np.ndarray
    scan: Mapping[str, np.ndarray] | None
    memory: MemoryTables | None = None
    ranker: RankerNet | None = None

    @property
    def n_items(self) -> int:
        """N, the size of the catalog."""
        return len(self.ids)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What training measured, as given to `save`."""
        return self.manifest["metrics"]

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Name and fingerprint of the data set it was trained on."""
        return self.manifest["dataset"]

    def file(self, part: str) -> Path | None:
        """The path of the file that holds `part`, or None where the bundle has no such part."""
        entry = self.manifest["files"].get(part)
        return None if entry is None else self.folder / entry["file"]

    @staticmethod
    def save(
        folder: str | os.PathLike[str],
        *,
        config: Config,
        weights: Mapping[str, np.ndarray],
        ids: ItemIds,
        popularity: np.ndarray,
        metrics: Mapping[str, Any],
        dataset: Mapping[str, Any],
        memory: MemoryTables | None = None,
        ranker: RankerNet | None = None,
        overwrite: bool = False,
    ) -> Bundle:
        """Write the folder (made if missing) and return it loaded.

        weights: float32 arrays by `bundle_format.parameter_shapes`. popularity: int64[N] clicks of each
        item. metrics, dataset (name, fingerprint): JSON values, kept for the record.
        memory, ranker: of a session memory, both or neither.

        A kill at any moment leaves the old bundle or the new one whole, a failure leaves nothing behind.
        Raises UsageError where a bundle exists and `overwrite` is not set, BundleError on arrays that do
        not fit, a non-finite weight, a full disk, or another process writing the same bundle.
        """
        folder = Path(folder)
        save_bundle(
            folder,
            config=config,
            weights=weights,
            ids=ids,
            popularity=popularity,
            metrics=metrics,
            dataset=dataset,
            memory=memory,
            ranker=ranker,
            overwrite=overwrite,
        )
        return Bundle.load(folder, verify=False)

    @staticmethod
    def load(folder: str | os.PathLike[str], verify: bool = True) -> Bundle:
        """Map a bundle. `verify=False` leaves out the passes over the data (hashes, finite values).

        Raises BundleError where it is missing, damaged, inconsistent or of a newer format.
        """
        folder = Path(folder)
        manifest = _read_manifest(folder)
        for _ in range(_ATTEMPTS):
            try:
                return _load(folder, manifest, verify)
            except BundleError:
                # Only a bundle that was replaced meanwhile is worth another try.
                current = _read_manifest(folder)
                if current == manifest:
                    raise
                manifest = current
        return _load(folder, manifest, verify)


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


def _load(folder: Path, manifest: dict[str, Any], verify: bool) -> Bundle:
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
    catalog = check_array(str(folder), "catalog", arrays["catalog"].get("catalog"), np.float32, (n_items, config.d))
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
        check_finite(str(folder), {**arrays["weights"], "catalog": catalog})
    memory, ranker = _memory(folder, digests, n_items)
    return Bundle(
        folder, manifest, config, arrays["weights"], catalog, ids, popularity, most_clicked, scan, memory, ranker
    )


def _memory(
    folder: Path, digests: Mapping[str, tuple[str, str]], n_items: int
) -> tuple[MemoryTables | None, RankerNet | None]:
    """The session memory's tables and ranker; neither where the bundle has none."""
    try:
        memory = MemoryTables.load(folder / digests["memory"][0]) if "memory" in digests else None
        ranker = RankerNet.load(folder / digests["ranker"][0]) if "ranker" in digests else None
    except DataError as error:
        raise BundleError(str(error)) from None
    check_memory(str(folder), memory, ranker, n_items)
    return memory, ranker


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
    with ThreadPoolExecutor(max_workers=min(len(wanted), os.cpu_count() or 1)) as pool:
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
