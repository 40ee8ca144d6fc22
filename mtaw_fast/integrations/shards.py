"""A shard of an item index: the actor that searches one item range of a catalog, and the sources of its vectors."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.versions import version_of
from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, MtawError, UsageError
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.ranking.retrieval.merging import Found

_FILTERS = 8  # filters that a shard keeps prepared


class ShardSource(Protocol):
    """The source of a shard's vectors. It is pickled to the shard's host, and called again if the shard restarts, when
    it must return the same rows."""

    def vectors(self) -> np.ndarray:
        """Return the rows of the range: float32[n, d], finite. Raises MtawError if they cannot be loaded."""
        ...


@dataclass(frozen=True, slots=True)
class BundleRows:
    """The item vectors begin..end - 1 of a bundle that is at the same path on every host with a shard.

    version: the bundle's (`bundle.versions.version_of`); a host with another version is refused.
    """

    folder: str
    begin: int
    end: int
    version: str

    def vectors(self) -> np.ndarray:
        """Map the rows; those of other shards are never read. See `ShardSource.vectors`."""
        bundle = Bundle.load(self.folder, verify=False, mapping="map")
        local = version_of(bundle.manifest)
        if local != self.version:
            raise BundleError(
                f"{self.folder} on this host is bundle {local}, but the other shards have {self.version}; put the same "
                "bundle there"
            )
        return bundle.item_vectors[self.begin : self.end]


def bundle_rows(folder: str | os.PathLike[str], n_shards: int) -> list[BundleRows]:
    """Return a source for each of `n_shards` ranges of a bundle's catalog, of equal size up to one item.

    Raises BundleError if the bundle is missing or damaged, UsageError on a number below 1.
    """
    if n_shards < 1:
        raise UsageError(f"n_shards must be at least 1, not {n_shards}")
    path = Path(folder).absolute()
    bundle = Bundle.load(path, verify=False, mapping="map")
    cuts = [len(bundle.item_vectors) * shard // n_shards for shard in range(n_shards + 1)]
    version = version_of(bundle.manifest)
    return [BundleRows(str(path), cuts[i], cuts[i + 1], version) for i in range(n_shards)]


class Shard:
    """The class of the actor: an exact index over one range. n_shards: number of shards of the whole index.

    A failure to load is stored and raised on every call, because Ray would restart an actor that fails on start
    forever.
    """

    def __init__(self, source: ShardSource, n_shards: int) -> None:
        self._n_shards = n_shards
        self._failure: MtawError | None = None
        self._filters: OrderedDict[str, Filter] = OrderedDict()
        try:
            vectors = source.vectors()
            self._shape = vectors.shape
            self._index = NativeIndex(vectors)
        except MtawError as error:
            self._failure = error

    def describe(self) -> tuple[int, int, int]:
        """Return the number of shards, the items of this one, and d. Raises MtawError if it could not be loaded."""
        if self._failure is not None:
            raise self._failure
        return self._n_shards, int(self._shape[0]), int(self._shape[1])

    def search(self, queries: np.ndarray, k: int, scale: float, name: str | None, bits: np.ndarray | None) -> Found:
        """Run `Index.search` over the range, with ids within it; with as many columns as it can fill, at least one.

        name: of a filter, or None. bits: uint8, the filter's part for this range as in `Filter.packed`.
        """
        if self._failure is not None:
            raise self._failure
        allowed = None if name is None or bits is None else self._filter(name, bits)
        return self._index.search(queries, max(1, min(k, self._shape[0])), allowed, scale=scale)

    def _filter(self, name: str, bits: np.ndarray) -> Filter:
        item_filter = self._filters.pop(name, None)
        if item_filter is None:
            item_filter = Filter(np.unpackbits(bits, count=self._shape[0], bitorder="little").astype(bool))
        self._filters[name] = item_filter
        while len(self._filters) > _FILTERS:
            self._filters.popitem(last=False)
        return item_filter
