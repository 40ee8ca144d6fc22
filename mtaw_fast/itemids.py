"""The table of external item ids: int64 or text, both ways, as a handful of mappable arrays.

A worker never holds a dict of a million strings: text ids are found through their sorted 64-bit
hashes and confirmed against the bytes, integers by binary search.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError

_INT64 = np.iinfo(np.int64)


class ItemIds:
    """External ids of N items; internal id i is the i-th of them.

    Ids are all int (within int64) or all str. A bool is no id. Thread-safe: read-only after creation.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Wrap arrays made by `arrays` (see `from_list`); raises DataError if they are not an id table."""
        if set(arrays) == {"values", "sorted", "order"}:
            self._text = False
            count = len(arrays["values"])
            expected = {"values": (np.int64, count), "sorted": (np.int64, count), "order": (np.int32, count)}
        elif set(arrays) == {"blob", "offsets", "hashes", "order"}:
            self._text = True
            count = len(arrays["order"])
            expected = {
                "blob": (np.uint8, len(arrays["blob"])),
                "offsets": (np.int64, count + 1),
                "hashes": (np.uint64, count),
                "order": (np.int32, count),
            }
        else:
            raise DataError(f"not an item id table: it holds {sorted(arrays)}; make the file anew")
        for name, (dtype, length) in expected.items():
            if arrays[name].dtype != dtype or arrays[name].shape != (length,):
                raise DataError(f"not an item id table: '{name}' has the wrong type or size; make the file anew")
        order = arrays["order"]
        if count and (order.min() < 0 or order.max() >= count):
            raise DataError("not an item id table: 'order' points outside it; make the file anew")
        if self._text:
            ends = arrays["offsets"]
            if ends[0] != 0 or ends[-1] != len(arrays["blob"]) or np.any(ends[1:] < ends[:-1]):
                raise DataError("not an item id table: 'offsets' does not fit 'blob'; make the file anew")
        self.arrays = dict(arrays)
        self._count = count

    @classmethod
    def from_list(cls, ids: Sequence[int] | Sequence[str]) -> ItemIds:
        """Build the table. Raises DataError on a mixture of types, a duplicate or an int outside int64."""
        if all(_is_int(value) for value in ids):
            numbers = [int(value) for value in ids]
            if any(not _INT64.min <= number <= _INT64.max for number in numbers):
                raise DataError("an integer item id lies outside int64; use text ids")
            return cls._from_values(np.array(numbers, dtype=np.int64))
        if not all(isinstance(value, str) for value in ids):
            kinds = sorted({type(value).__name__ for value in ids})
            raise DataError(f"item ids must be all int or all str, not a mixture of {kinds}; convert them first")
        encoded = [_encode(str(value)) for value in ids]
        hashes = np.array([_hash(value) for value in encoded], dtype=np.uint64)
        order = np.argsort(hashes, kind="stable").astype(np.int32)
        offsets = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum([len(value) for value in encoded], out=offsets[1:])
        if len(set(encoded)) != len(encoded):
            raise DataError("an item id occurs twice in the id table; ids must be unique")
        blob = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return cls({"blob": blob, "offsets": offsets, "hashes": hashes[order], "order": order})

    @classmethod
    def _from_values(cls, values: np.ndarray) -> ItemIds:
        order = np.argsort(values, kind="stable").astype(np.int32)
        ordered = values[order]
        if np.any(ordered[1:] == ordered[:-1]):
            raise DataError("an item id occurs twice in the id table; ids must be unique")
        return cls({"values": values, "sorted": ordered, "order": order})

    def __len__(self) -> int:
        return self._count

    @property
    def kind(self) -> str:
        """'int' or 'str'."""
        return "str" if self._text else "int"

    def lookup(self, ids: Sequence[Any]) -> np.ndarray:
        """Internal ids of external `ids`: int32[len(ids)], -1 where the table does not know one.

        An id of the other type (a number as text, say) is unknown, never an error.
        """
        found = np.full(len(ids), -1, dtype=np.int32)
        if len(ids) == 0 or self._count == 0:
            return found
        if self._text:
            self._lookup_text(ids, found)
        else:
            self._lookup_int(ids, found)
        return found

    def _lookup_int(self, ids: Sequence[Any], found: np.ndarray) -> None:
        asked = [k for k, value in enumerate(ids) if _is_int(value) and _INT64.min <= value <= _INT64.max]
        values = np.array([ids[k] for k in asked], dtype=np.int64)
        places = np.minimum(np.searchsorted(self.arrays["sorted"], values), self._count - 1)
        hit = self.arrays["sorted"][places] == values
        found[np.array(asked, dtype=np.int64)[hit]] = self.arrays["order"][places[hit]]

    def _lookup_text(self, ids: Sequence[Any], found: np.ndarray) -> None:
        asked = [k for k, value in enumerate(ids) if isinstance(value, str)]
        encoded = [_encode(ids[k]) for k in asked]
        hashes = np.array([_hash(value) for value in encoded], dtype=np.uint64)
        places = np.searchsorted(self.arrays["hashes"], hashes)
        for k, value, value_hash, place in zip(asked, encoded, hashes, places.tolist(), strict=True):
            # Equal hashes of unequal ids stand side by side: look at each of the run.
            while place < self._count and self.arrays["hashes"][place] == value_hash:
                candidate = int(self.arrays["order"][place])
                if self._bytes_of(candidate) == value:
                    found[k] = candidate
                    break
                place += 1

    def external(self, internal: np.ndarray) -> list[Any]:
        """External ids (int or str) of internal ids int[n]."""
        if self._text:
            return [self._bytes_of(i).decode("utf-8", "surrogatepass") for i in internal.tolist()]
        return self.arrays["values"][internal].tolist()

    def _bytes_of(self, internal: int) -> bytes:
        begin, end = self.arrays["offsets"][internal : internal + 2].tolist()
        return self.arrays["blob"][begin:end].tobytes()


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _encode(value: str) -> bytes:
    return value.encode("utf-8", "surrogatepass")


def _hash(value: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "little")
