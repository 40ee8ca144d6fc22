"""The table of external item ids, int64 or text, with lookups in both directions, as a few mappable arrays.

A worker needs no dict of a million strings: text ids are found through a hash table in the mapped file and compared
with their bytes, integers by binary search. `kernels/native/ids` does the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import offsets_of
from mtaw_fast.errors import DataError, ItemTypeError, shown
from mtaw_fast.kernels.native.ids import IdTable

_INT64 = np.iinfo(np.int64)
_CHUNK = 4096
_INTS = {"values": np.int64, "sorted": np.int64, "order": np.int32}
_TEXTS = {"blob": np.uint8, "offsets": np.int64, "slots": np.uint64}


class IdLookups:
    """The lookups of an id table in both directions. table: the native table. kind: 'int' or 'str'."""

    table: IdTable
    kind: str

    def __len__(self) -> int:
        return len(self.table)

    def __contains__(self, item: object) -> bool:
        return bool(self.lookup([item])[0] >= 0)

    def __iter__(self) -> Iterator[Any]:
        for begin in range(0, len(self), _CHUNK):
            yield from self.external(np.arange(begin, min(begin + _CHUNK, len(self))))

    def lookup(self, ids: Sequence[Any]) -> np.ndarray:
        """Return the internal ids of external `ids`: int32[len(ids)], -1 for an unknown id.

        An id of the other type, such as a number as text, is unknown and not an error.
        """
        return self.table.lookup(ids)

    def known(self, ids: Sequence[Any]) -> np.ndarray:
        """Return the distinct internal ids of the known ones among `ids`: int32[..], ascending."""
        return self.table.known(ids)

    def external(self, internal: np.ndarray) -> list[Any]:
        """Return the external ids (int or str) of internal ids int[n]. Raises IndexError on one outside 0..N-1."""
        return self.table.external(np.ascontiguousarray(internal, dtype=np.int32))


class ItemIds(IdLookups):
    """External ids of N items; internal id i is the i-th of them.

    Ids are all int (within int64) or all str; a bool is not an id. Thread-safe: read-only after creation.

    arrays: for ints `values` int64[N] by internal id, `sorted` int64[N] ascending, `order` int32[N] the internal ids of
    the sorted ones. For texts `blob` uint8[..] all UTF-8 bytes end to end, `offsets` int64[N + 1] where each begins,
    `slots` uint64[a power of two] the hash table.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Wrap the arrays of a table made by `from_list`. Raises DataError if they are not an id table."""
        text = set(arrays) == set(_TEXTS)
        expected = _TEXTS if text else _INTS
        if set(arrays) != set(expected):
            raise DataError(f"not an item id table: it holds {shown(sorted(arrays))}; write the file again")
        for name, dtype in expected.items():
            if arrays[name].dtype != dtype or arrays[name].ndim != 1:
                raise DataError(
                    f"not an item id table: '{name}' is not a vector of {np.dtype(dtype)}; write the file again"
                )
        try:
            self.table = IdTable.of_texts(**arrays) if text else IdTable.of_ints(**arrays)
        except ValueError as error:
            raise DataError(f"not an item id table: {error}; write the file again") from None
        order = arrays.get("order")
        if order is not None and len(order) and (order.min() < 0 or order.max() >= len(order)):
            raise DataError("not an item id table: 'order' points outside it; write the file again")
        self.arrays = dict(arrays)
        self._text, self.kind = text, "str" if text else "int"
        self._digest: tuple[int, bytes] = (-1, b"")

    def __reduce__(self) -> tuple[type[ItemIds], tuple[Mapping[str, np.ndarray]]]:
        return ItemIds, (self.arrays,)

    @classmethod
    def from_list(cls, ids: Sequence[int] | Sequence[str]) -> ItemIds:
        """Build the table. Raises DataError on mixed types, a duplicate or an int outside int64."""
        if all(_is_int(value) for value in ids):
            numbers = [int(value) for value in ids]
            if any(not _INT64.min <= number <= _INT64.max for number in numbers):
                raise DataError("an integer item id lies outside int64; use text ids")
            return cls._from_values(np.array(numbers, dtype=np.int64))
        if not all(isinstance(value, str) for value in ids):
            kinds = sorted({type(value).__name__ for value in ids})
            raise DataError(f"item ids must be all int or all str, not a mixture of {kinds}; convert them first")
        encoded = [str(value).encode("utf-8", "surrogatepass") for value in ids]
        offsets = offsets_of(list(map(len, encoded)))
        blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        try:
            slots = IdTable.slots_of(blob, offsets)
        except ValueError as error:
            raise DataError(f"{error} in the id table; ids must be unique") from None
        return cls({"blob": blob, "offsets": offsets, "slots": slots})

    @classmethod
    def _from_values(cls, values: np.ndarray) -> ItemIds:
        order = np.argsort(values, kind="stable").astype(np.int32)
        ordered = values[order]
        if np.any(ordered[1:] == ordered[:-1]):
            raise DataError("an item id occurs twice in the id table; ids must be unique")
        return cls({"values": values, "sorted": ordered, "order": order})

    def digest(self, count: int) -> bytes:
        """Return 16 bytes that tell the first `count` ids, in their order, from all others; the last ones are kept."""
        kept_count, kept = self._digest
        if kept_count == count:
            return kept
        if self._text:
            offsets = self.arrays["offsets"][: count + 1]
            parts = [offsets, self.arrays["blob"][: offsets[-1]]]
        else:
            parts = [self.arrays["values"][:count]]
        digest = blake2b(self.kind.encode(), digest_size=16)
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
        self._digest = count, digest.digest()
        return self._digest[1]


def refuse_other_type(kind: str, items: Sequence[Any], where: str = "the session") -> None:
    """Raise ItemTypeError if there are `items` and none is of the type `kind`, 'int' or 'str'."""
    is_kind = _is_int if kind == "int" else lambda item: isinstance(item, str)
    if len(items) == 0 or any(is_kind(item) for item in items):
        return
    first = items[0]
    raise ItemTypeError(
        f"{where} has no id of the catalog's type: its first is {shown(first, 40)} ({type(first).__name__}), the "
        f"catalog's ids are {kind}; convert them"
    )


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
