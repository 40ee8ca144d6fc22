"""A trained model in a folder: everything that serving needs, mapped into memory and shared by processes.

    manifest.json                   what it is, how it was made, the SHA-256 of every file
    weights-<hash>.safetensors      the model's arrays, float32
    catalog-<hash>.safetensors      float32[N, d] L2-normalized item embeddings
    items-<hash>.safetensors        the external ids
    popularity-<hash>.safetensors   int64[N] clicks of each item in the training sessions; int32[N] the items by them
    scan-<hash>.safetensors         the catalog's int8 codes for the exact scanner; older bundles have none
    memory-<hash>.safetensors       tables of the session memory, and
    ranker-<hash>.safetensors       its ranker: where the model was trained with one
    times-<hash>.safetensors        int64[T] when the memory's clicks were: where the data set has times
    trends-<hash>.safetensors       what these times say, decayed: where the ranker reads it
    learned-<hash>.safetensors      how far it has learned from a log of events: where it has
    index-<hash>.faiss, encoder-<hash>.onnx, ..     what export adds (`bundle.format.ADDED_PARTS`)

The manifest is replaced last and atomically, so a reader sees the old bundle or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mtaw_fast.bundle.reader import read_bundle
from mtaw_fast.bundle.writer import save_bundle
from mtaw_fast.config import Config
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model in a folder; every array of it is a read-only memory map that processes share.

    The model's parts are attributes of the bundle too, by the same names.

    Attributes
    ----------
    folder : Path
        Where it lies.
    manifest : mapping
        What `manifest.json` said when the bundle was loaded.
    model : Model
        What ranks.
    """

    folder: Path
    manifest: Mapping[str, Any]
    model: Model

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
    ) -> Bundle:
        """Write a model into a folder. A kill at any moment leaves the old bundle or the new one whole.

        Parameters
        ----------
        folder : path
            Made if missing; other files in it stay.
        model : Model
            What to keep.
        metrics : mapping of JSON values
            What training measured, for the record.
        dataset : mapping of JSON values
            Name and fingerprint of the data set, for the record.
        overwrite : bool, default False
            Whether a bundle that is there already may be replaced.
        about : mapping of JSON values, default {}
            Further entries of the manifest.
        instead_of : Bundle, optional
            What the model was made from: another one in the folder by now is not replaced.

        Returns
        -------
        Bundle
            The bundle, loaded from the folder.

        Raises
        ------
        UsageError
            Where a bundle exists and `overwrite` is not set, or the folder holds something else.
        BundleError
            On parts that do not fit together, a weight that is not finite, a full disk, another process that is
            writing the same bundle, or one that has put another in its place. Nothing is left behind.
        """
        folder = Path(folder)
        replaced = None if instead_of is None else instead_of.manifest
        save_bundle(folder, model, metrics, dataset, overwrite, about, replaced)
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
            Whether to pass over the data: hashes, and what no hash tells (`bundle.verify`).
        mapping : {'copy', 'map'}, optional
            'copy' holds sealed copies of the files, which processes share; 'map' maps the files themselves, which
            nobody may write into then. None goes by MTAW_MAPPING, and copies where that is not set.

        Returns
        -------
        Bundle
            The old one or the new one, where another process replaces it meanwhile.

        Raises
        ------
        BundleError
            Where it is missing, damaged, inconsistent or of a newer format.
        """
        folder = Path(folder)
        return Bundle(folder, *read_bundle(folder, verify, mapping))

    def file(self, part: str) -> Path | None:
        """The path of the file that holds `part`, or None where the bundle has no such part."""
        entry = self.manifest["files"].get(part)
        return None if entry is None else self.folder / entry["file"]

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What training measured, as given to `save`."""
        return self.manifest["metrics"]

    @property
    def dataset(self) -> Mapping[str, Any]:
        """Name and fingerprint of the data set that the model was trained on."""
        return self.manifest["dataset"]

    @property
    def n_items(self) -> int:
        """N, the size of the catalog."""
        return self.model.n_items

    @property
    def config(self) -> Config:
        """See `Model`."""
        return self.model.config

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """See `Model`."""
        return self.model.weights

    @property
    def ids(self) -> ItemIds:
        """See `Model`."""
        return self.model.ids

    @property
    def popularity(self) -> np.ndarray:
        """See `Model`."""
        return self.model.popularity

    @property
    def item_vectors(self) -> np.ndarray:
        """See `Model`."""
        return self.model.item_vectors

    @property
    def most_clicked(self) -> np.ndarray:
        """See `Model`."""
        return self.model.most_clicked

    @property
    def scan(self) -> Mapping[str, np.ndarray] | None:
        """See `Model`."""
        return self.model.scan

    @property
    def memory(self) -> MemoryTables | None:
        """See `Model`."""
        return self.model.memory

    @property
    def ranker_net(self) -> RankerNet | None:
        """See `Model`."""
        return self.model.ranker_net
