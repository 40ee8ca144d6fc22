"""What all groups of settings share: types and ranges are checked on creation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from mtaw_fast.errors import UsageError, shown

_LARGEST_INT = 2**31 - 1


class Group:
    """A group of settings: a frozen dataclass that checks types and ranges on creation."""

    CHOICES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # of the dataclasses below

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_type(field.name, getattr(self, field.name), str(field.type), self.CHOICES)
        for name, valid in self.ranges().items():
            if not valid:
                value = shown(getattr(self, name))
                raise UsageError(f"setting {name}={value} is out of range; see 'mtaw-fast train --help'")
        for name, choices in self.CHOICES.items():
            if getattr(self, name) not in choices:
                raise UsageError(f"setting {name}={shown(getattr(self, name))} is not one of {', '.join(choices)}")

    def ranges(self) -> dict[str, bool]:
        """Whether each setting that has a range is in it."""
        return {}


def _check_type(name: str, value: Any, kind: str, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise UsageError if a value is not of the declared type; an int is accepted for a float."""
    kinds = {"bool": (bool,), "int": (int,), "float": (float, int)}.get(kind, (str,))
    if type(value) not in kinds:
        raise UsageError(f"setting {name} must be {'str' if name in choices else kind}, not {shown(value)}")
    if (kind == "int" and abs(value) > _LARGEST_INT) or (kind == "float" and not _is_finite(value)):
        raise UsageError(f"setting {name}={shown(value)} is out of range; see 'mtaw-fast train --help'")


def _is_finite(value: float) -> bool:
    """Whether a number is a finite float; an int may be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
