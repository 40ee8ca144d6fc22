"""The types of clicks that a ranker reads, such as view, cart and purchase.

A type is kept as a code: its index among the names, or `NO_TYPE` for a type that is unknown or has no name here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.kernels.native.memory_query import MAX_TYPES, NO_TYPE

MAX_CHARACTERS = 200  # of a type's name


@dataclass(frozen=True, slots=True)
class ClickTypes:
    """Names of at most `MAX_TYPES` types, by code."""

    names: tuple[str, ...] = ()
    _codes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_codes", {name: code for code, name in enumerate(self.names)})

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of_clicks(cls, types: np.ndarray | None, names: Sequence[str]) -> ClickTypes:
        """Return the types to rank by: the most frequent ones of clicks, in the order of the names.

        It is empty if fewer than two types occur, since a single one says nothing. types: uint8[T], codes. names: the
        types' names, by code.
        """
        if types is None:
            return cls()
        counts = np.bincount(types, minlength=len(names))
        usable = [code for code, name in enumerate(names) if counts[code] and _is_name(name)]
        frequent = sorted(usable, key=lambda code: -counts[code])[:MAX_TYPES]
        return cls(tuple(names[code] for code in sorted(frequent)) if np.count_nonzero(counts) > 1 else ())

    def codes(self, types: Iterable[str | None]) -> np.ndarray:
        """Return uint8[m]: the codes of m types; None and other names are unknown."""
        return np.frombuffer(bytes(map(self._codes.get, types, itertools.repeat(NO_TYPE))), np.uint8)  # type: ignore[arg-type]

    def unknown(self, types: Iterable[str | None]) -> list[str]:
        """Return the types that have no name here, sorted, each once."""
        return sorted(text for text in set(types) if text is not None and text not in self._codes)

    def translated(self, types: np.ndarray | None, names: Sequence[str]) -> np.ndarray | None:
        """Return uint8[T]: the codes of clicks uint8[T], whose own codes have these names; None without any."""
        if types is None or not self.names:
            return None
        table = np.full(256, NO_TYPE, dtype=np.uint8)
        table[: len(names)] = self.codes(names)
        codes: np.ndarray = table[types]
        return codes

    def names_of(self, codes: np.ndarray) -> list[str | None]:
        """Return the types of codes uint8[m]; None for an unknown one."""
        return [self.names[code] if code < len(self.names) else None for code in codes.tolist()]


def checked_types(where: str, types: Any, count: int) -> list[str | None]:
    """Return the types of `count` clicks. Raises UsageError unless there is a text or None for each."""
    if isinstance(types, (str, bytes)) or not isinstance(types, Iterable):
        raise UsageError(f"{where} must be a list, not {shown(types, 60)}; give one for each click")
    texts = list(types)
    for text in texts:
        if text is not None and not isinstance(text, str):
            raise UsageError(f"{where}: {shown(text, 60)} is not a type; write a text, or None where it is not known")
    if len(texts) != count:
        raise UsageError(
            f"{where}: there are {len(texts)} types for {count} clicks; give one for each, None where it is not known"
        )
    return texts


def _is_name(name: str) -> bool:
    """Whether a type's name can be a part of a feature's name, of which a ranker's file has one a line."""
    return 0 < len(name) <= MAX_CHARACTERS and "\n" not in name
