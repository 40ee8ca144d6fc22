"""A trained model in a folder: everything that serving needs, mapped into memory and shared by processes.

    manifest.json                   format, settings, metrics, how it was made, the SHA-256 of every file
    weights-<hash>.safetensors      the model's arrays, float32
    catalog-<hash>.safetensors      float32[N, d] L2-normalized item embeddings
    items-<hash>.safetensors        the external ids
    popularity-<hash>.safetensors   int64[N] clicks of each item in the training sessions; int32[N] the items by them
    scan-<hash>.safetensors         the catalog's int8 codes for the native index
    memory-<hash>.safetensors       tables of the session memory, if the model was trained with one
    ranker-<hash>.safetensors       the ranker of the session memory
    times-<hash>.safetensors        int64[T] times of the memory's clicks, if the data set has times
    trends-<hash>.safetensors       decayed clicks by these times, if the ranker uses them
    item_table-<hash>.safetensors   what is known about the items (`mtaw_fast.items`), if anything is
    content-<hash>.safetensors      gives items without clicks a vector by what is known about them
    context-<hash>.safetensors      the context of these clicks, if the ranker uses it
    types-<hash>.safetensors        the types of these clicks, if the ranker uses them
    learned-<hash>.safetensors      how far it has learned from a log of events, if it has
    index-<hash>.faiss, encoder-<hash>.onnx, ..     added by export (`bundle.format.ADDED_PARTS`)

The manifest is replaced last and atomically, so a reader sees the old bundle or the new one. A bundle for a download
has less (`bundle.compact`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from mtaw_fast.bundle.format import COMPACT_VERSION
from mtaw_fast.bundle.reader import read_bundle
from mtaw_fast.bundle.writer import save_bundle
from mtaw_fast.config import Config
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.model import Model

Part = TypeVar("Part")


class _ModelPart(Generic[Part]):
    """The attribute of a bundle's model that has the same name."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, bundle: Bundle, owner: type | None = None) -> Part:
        part: Part = getattr(bundle.model, self._name)
        return part


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model in a folder; every array is a read-only memory map that processes share.

    The model's parts are attributes of the bundle too, with the same names.

    Attributes
    ----------
    folder : Path
    manifest : mapping
        The content of `manifest.json` when the bundle was loaded.
    model : Model
    """

    folder: Path
    manifest: Mapping[str, Any]
    model: Model

    config = _ModelPart[Config]()
    weights = _ModelPart[Mapping[str, np.ndarray]]()
    ids = _ModelPart[ItemIds]()
    n_items = _ModelPart[int]()
    popularity = _ModelPart[np.ndarray]()
    item_vectors = _ModelPart[np.ndarray]()
    most_clicked = _ModelPart[np.ndarray]()
    scan = _ModelPart[Mapping[str, np.ndarray] | None]()
    items = _ModelPart[ItemTable | None]()
    memory = _ModelPart[MemoryTables | None]()
    ranker_net = _ModelPart[RankerNet | None]()

    @staticmethod
    def save(
        folder: str | os.PathLike[str],
        model: Model,
        *,
        metrics: Mapping[str, Any],
        dataset: Mapping[str, Any],
        overwrite: bool = False,
        about: Mapping[str, Any] = MappingProxyType({}),
        instead_of: Bundle | None = None,
        compact: bool = False,
    ) -> Bundle:
        """Write a model into a folder. A kill at any moment leaves the old bundle or the new one whole.

        Parameters
        ----------
        folder : path
            Created if missing; other files in it stay.
        model : Model
        metrics : mapping of JSON values
            The results of the training, for the record.
        dataset : mapping of JSON values
            Name and fingerprint of the data set, for the record.
        overwrite : bool, default False
            Whether an existing bundle may be replaced.
        about : mapping of JSON values, default {}
            More entries of the manifest.
        instead_of : Bundle, optional
            The bundle that the model was made from; if the folder contains another one by now, it is not replaced.
        compact : bool, default False
            Whether to write the small form (`bundle.compact`), which takes longer to load.

        Returns
        -------
        Bundle
            The bundle, loaded from the folder.

        Raises
        ------
        UsageError
            If a bundle exists and `overwrite` is not set, or the folder contains something else.
        BundleError
            If parts do not fit together, a weight is not finite, the disk is full, or another process writes or has
            replaced the same bundle. Nothing is left behind.
        """
        folder = Path(folder)
        replaced = None if instead_of is None else instead_of.manifest
        save_bundle(folder, model, metrics, dataset, overwrite, about, replaced, compact)
        return Bundle.load(folder, verify=False)

    @staticmethod
    def load(
        folder: str | os.PathLike[str], verify: bool = True, mapping: Literal["copy", "map"] | None = None
    ) -> Bundle:
        """Load a bundle.

        Parameters
        ----------
        folder : path
            What `save` wrote.
        verify : bool, default True
            Whether to check file hashes, and that values are finite, ids distinct, and parts of one model.
        mapping : {'copy', 'map'}, optional
            'copy' makes sealed copies of the files in memory, which processes share. 'map' maps the files themselves;
            nobody may write into them then. The default is MTAW_MAPPING, or 'copy'.

        Returns
        -------
        Bundle
            The old one or the new one if another process replaces it meanwhile.

        Raises
        ------
        BundleError
            If it is missing, damaged, inconsistent or of a newer format.
        """
        folder = Path(folder)
        return Bundle(folder, *read_bundle(folder, verify, mapping))

    def check_learns(self) -> None:
        """Raise UsageError if it lacks what learning reads: a session memory, or what the small form leaves out."""
        if self.memory is None:
            raise UsageError(
                f"the bundle {self.folder} has no session memory, so it cannot learn; train it with preset full"
            )
        if self.manifest["format_version"] == COMPACT_VERSION:
            raise UsageError(
                f"the bundle {self.folder} was made for a page, so it cannot learn; use the one that it was made from"
            )

    def file(self, part: str) -> Path | None:
        """Return the path of the file of `part`; None if the bundle has no such part."""
        entry = self.manifest["files"].get(part)
        return None if entry is None else self.folder / entry["file"]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The results of the training, as given to `save`."""
        return self.manifest["metrics"]

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Name and fingerprint of the data set that the model was trained on."""
        return self.manifest["dataset"]
