"""The names of a category column's codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.items.ragged import check_offsets, offsets_of
from mtaw_fast.system.cached_property import cached_property


class Labels(Sequence[str]):
    """An immutable list of distinct texts; code i is the i-th. Stored as UTF-8, decoded at the first use."""

    def __init__(self, offsets: np.ndarray, text: np.ndarray) -> None:
        self.offsets, self.text = offsets, text

    @classmethod
    def of(cls, labels: Sequence[str]) -> Labels:
        """Return the list of these labels."""
        encoded = [label.encode("utf-8", "surrogatepass") for label in labels]
        result = cls(offsets_of([len(text) for text in encoded]), np.frombuffer(b"".join(encoded), dtype=np.uint8))
        result.__dict__["_decoded"] = list(labels)
        return result

    def check(self, where: str) -> None:
        """Raise DataError unless the arrays make a list of texts."""
        if not check_offsets(self.offsets, len(self.text)):
            raise DataError(f"{where}: its labels are damaged; write the file again")

    @cached_property
    def _decoded(self) -> list[str]:
        raw, ends = self.text.tobytes(), self.offsets.tolist()
        return [raw[begin:end].decode("utf-8", "replace") for begin, end in pairwise(ends)]

    @cached_property
    def codes(self) -> Mapping[str, int]:
        """The code of each label."""
        return {label: code for code, label in enumerate(self._decoded)}

    def extended(self, more: Sequence[str]) -> Labels:
        """Return the list with more labels after these, which keep their codes."""
        return Labels.of([*self._decoded, *more]) if more else self

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._decoded[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded)

    def __contains__(self, label: object) -> bool:
        return label in self.codes
