"""Read a bundle: the core opens and checks all of it (`kernels/native/bundle`), and its arrays make the model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle.format import FORMAT, MANIFEST, READABLE_VERSIONS
from mtaw_fast.config import Config
from mtaw_fast.data.context import ClickContext
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError, LaterFormatError, MtawError, shown
from mtaw_fast.items import ContentVectors, ItemTable
from mtaw_fast.kernels.native import _native
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.checks import RETRAIN
from mtaw_fast.model.model import Model
from mtaw_fast.storage.files import read_json
from mtaw_fast.storage.sealed_file import mapping_of, open_for_reading
from mtaw_fast.storage.tensor_file import Tensors
from mtaw_fast.system.cpus import usable_cpus


def read_bundle(folder: Path, verify: bool, mapping: str | None) -> tuple[dict[str, Any], Model]:
    """Read the manifest in `folder` and the model that it names; see `Bundle.load`."""
    text, arrays = _native.open_bundle(
        os.fsencode(folder), verify, mapping_of(mapping), usable_cpus(), open_for_reading
    )
    try:
        manifest = json.loads(text)
        files = manifest["files"]
        parts = {part: Tensors(folder / files[part]["file"], arrays[part]) for part in arrays if part in files}
        return manifest, _model_of(manifest, {**arrays, **parts})
    except (MtawError, ValueError) as error:  # what the core should have refused
        raise BundleError(f"{folder}: {error}; {RETRAIN}") from None


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


def _model_of(manifest: Mapping[str, Any], parts: Mapping[str, Any]) -> Model:
    """Return the model of arrays that the core has checked. parts: the arrays of each part by name."""

    def made(part: str, make: Any) -> Any:
        return make(parts[part]) if part in parts else None

    def array(part: str) -> np.ndarray | None:
        return None if part not in parts else parts[part][part]

    popularity = parts["popularity"]
    return Model(
        config=Config.from_dict(manifest["config"]),
        weights=parts["weights"],
        ids=ItemIds(parts["items"]),
        popularity=popularity["popularity"],
        item_vectors=parts["catalog"]["catalog"],
        most_clicked=popularity["most_clicked"],
        scan=parts.get("scan"),
        memory=made("memory", MemoryTables.load),
        ranker_net=made("ranker", RankerNet.load),
        log_progress=made("learned", LogProgress.load),
        clicked_at=array("times"),
        trends=made("trends", TrendTables.load),
        items=made("item_table", ItemTable.of),
        content=made("content", ContentVectors.of),
        context=made("context", ClickContext.of_arrays),
        types=array("types"),
    )
