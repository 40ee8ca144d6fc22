"""One item range of a catalog, searched in a process of its own: what runs in a shard's actor, and what fills it."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, MtawError, UsageError
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.ranking.retrieval.merging import Found
from mtaw_fast.service.snapshot import version_of

_FILTERS = 8  # prepared filters whose range a shard keeps


class ShardSource(Protocol):
    """Where a shard gets its vectors. Travels to the shard's machine by pickle, and is asked again when the shard is
    started again: it must give the same rows."""

    def vectors(self) -> np.ndarray:
        """float32[n, d], finite: the rows of the range. Raises MtawError where they cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class BundleRows:
    """The item vectors begin..end - 1 of a bundle that lies at the same place on every machine with a shard.

    version: the bundle's (`service.snapshot.version_of`); a machine that holds another one is refused.
    """

    folder: str
    begin: int
    end: int
    version: str

    def vectors(self) -> np.ndarray:
        """The rows, mapped: the other shards' are never read. See `ShardSource.vectors`."""
        bundle = Bundle.load(self.folder, verify=False, mapping="map")
        found = version_of(bundle.manifest)
        if found != self.version:
            raise BundleError(
                f"{self.folder} on this machine holds bundle {found}, the other shards have {self.version}; put the "
                "same bundle there"
            )
        return bundle.item_vectors[self.begin : self.end]


def bundle_rows(folder: str | os.PathLike[str], n_shards: int) -> list[BundleRows]:
    """A source for each of `n_shards` ranges of a bundle's catalog, equal to within an item.

    Raises BundleError where the bundle is missing or damaged, UsageError on a number below 1.
    """
    if n_shards < 1:
        raise UsageError(f"n_shards must be at least 1, not {n_shards}")
    path = Path(folder).absolute()
    bundle = Bundle.load(path, verify=False, mapping="map")
    cuts = [len(bundle.item_vectors) * shard // n_shards for shard in range(n_shards + 1)]
    version = version_of(bundle.manifest)
    return [BundleRows(str(path), cuts[i], cuts[i + 1], version) for i in range(n_shards)]


class Shard:
    """The actor's class: an exact index over one range. A failure to load is kept and told to whoever asks, since an
    actor that cannot be made would be made again without end.

    n_shards: of the whole index.
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
        """Shards of the whole index, items of this one, and d. Raises MtawError where it could not be loaded."""
        if self._failure is not None:
            raise self._failure
        return self._n_shards, int(self._shape[0]), int(self._shape[1])

    def search(self, queries: np.ndarray, k: int, scale: float, name: str | None, bits: np.ndarray | None) -> Found:
        """`Index.search` over the range, in ids of its own; as many columns as it can fill, but at least one.

        name: of a prepared filter, None for none. bits: uint8, its part for this range as `Filter.packed`.
        """
        if self._failure is not None:
            raise self._failure
        allowed = None if name is None or bits is None else self._filter(name, bits)
        return self._index.search(queries, max(1, min(k, self._shape[0])), allowed, scale=scale)

    def _filter(self, name: str, bits: np.ndarray) -> Filter:
        found = self._filters.pop(name, None)
        if found is None:
            found = Filter(np.unpackbits(bits, count=self._shape[0], bitorder="little").astype(bool))
        self._filters[name] = found
        while len(self._filters) > _FILTERS:
            self._filters.popitem(last=False)
        return found
