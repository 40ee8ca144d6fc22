"""The set of items that may be recommended: a mask over the catalog, made once and used many times."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from mtaw_fast.errors import UsageError
from mtaw_fast.system.cached_property import cached_property

_NONE_RENEWED: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Filter:
    """A set of allowed items. Thread-safe; derived forms are computed on first use and kept.

    mask: bool[N], True for an item that may be recommended; must not be changed afterwards.
    base: the number of items in the bundle, if the filter may be extended to items that are added while learning;
    0: it fits catalogs of N items only.
    later: whether items that are added after the filter was made are allowed.
    ids_digest: `ItemIds.digest` of the ids that the bundle was trained with; empty: any catalog of N items will do.
    """

    mask: np.ndarray
    base: int = 0
    later: bool = False
    ids_digest: bytes = b""
    _wider: dict[Any, Filter] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls, n_items: int, exclude: np.ndarray, allow: np.ndarray | None, base: int = 0, ids_digest: bytes = b""
    ) -> Filter:
        """Allow all N items, or only `allow` (int[..] internal ids), without `exclude` (int[..]).

        base, ids_digest: see the class. Items that are added later are allowed, unless `allow` is given.
        """
        if allow is None:
            mask = np.ones(n_items, dtype=bool)
        else:
            mask = np.zeros(n_items, dtype=bool)
            mask[allow] = True
        mask[exclude] = False
        return cls(mask, base, base > 0 and allow is None, ids_digest)

    @classmethod
    def of_bits(cls, bits: np.ndarray, n_items: int) -> Filter:
        """Return the filter whose packed form is `bits`, see `packed`; kept without a copy."""
        result = cls(np.unpackbits(bits, count=n_items, bitorder="little").view(bool))
        result.__dict__["packed"] = bits
        return result

    def __and__(self, other: Filter) -> Filter:
        """Return the items that both filters allow. Raises UsageError if their catalogs differ."""
        other.check(len(self.mask), self.ids_digest)
        base, later = min(self.base, other.base), self.later and other.later
        return Filter(self.mask & other.mask, base, later, self.ids_digest or other.ids_digest)

    def extended(
        self,
        n_items: int,
        base: int,
        first: int | None = None,
        renewed: Mapping[int, int] = _NONE_RENEWED,
        ids_digest: bytes = b"",
    ) -> Filter:
        """Return the filter for a catalog of `base` items that now has `n_items`: itself if it already fits.

        first: the number of items in the trained bundle, if this one was compacted from it: a filter stays valid when
        the bundle it was made for is compacted. renewed: as in `Catalog`; such an item is allowed if it was before.
        ids_digest: the catalog's. Raises UsageError as `check`.
        """
        if len(self.mask) == n_items or not (first or base) <= self.base <= base or len(self.mask) > n_items:
            self.check(n_items, ids_digest)
            return self
        self.check(len(self.mask), ids_digest)
        key = n_items, *renewed.items()
        wider = self._wider.get(key)
        if wider is None:
            mask = np.full(n_items, self.later)
            mask[: len(self.mask)] = self.mask
            for former, internal_id in renewed.items():
                if internal_id >= len(self.mask):
                    mask[internal_id] = mask[former]
            wider = Filter(mask, self.base, self.later, self.ids_digest)
            # Kept because a filter is used many times, and an index caches what it derives from it.
            self._wider.clear()
            self._wider[key] = wider
        return wider

    def check(self, n_items: int, ids_digest: bytes = b"") -> None:
        """Raise UsageError unless the filter is for a catalog of `n_items`, and for these ids if both have a digest."""
        if len(self.mask) != n_items:
            raise UsageError(
                f"the filter is for a catalog of {len(self.mask)} items, this one has {n_items}; "
                "make it with this Recommender's filter()"
            )
        if self.ids_digest and ids_digest and self.ids_digest != ids_digest:
            raise UsageError("the filter is for a bundle with other item ids; make it with this Recommender's filter()")

    @cached_property
    def ids(self) -> np.ndarray:
        """int32[count]: the allowed internal ids, ascending."""
        return np.flatnonzero(self.mask).astype(np.int32)

    @property
    def count(self) -> int:
        """The number of allowed items."""
        return len(self.ids)

    @cached_property
    def banned(self) -> np.ndarray:
        """bool[N]: the complement of the mask."""
        return ~self.mask

    @cached_property
    def packed(self) -> np.ndarray:
        """uint8[ceil(N / 8)]: the mask as bits, item 0 in the lowest bit of byte 0."""
        return np.packbits(self.mask, bitorder="little")
