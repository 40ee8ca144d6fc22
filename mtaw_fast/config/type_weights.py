"""The weight of a target by the type of its event, such as view=1,cart=3,purchase=8.

Axes: K types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mtaw_fast.errors import UsageError, shown

TypeWeights = Mapping[str, float] | str

_MIN_WEIGHT, _MAX_WEIGHT = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)


def parsed(weights: TypeWeights, where: str = "weights") -> dict[str, float]:
    """Return the weights by name of the type.

    weights: such as 'view=1,cart=3'; empty for none. where: names the setting in an error.

    Raises UsageError if the text has another form, or a weight is negative, not a number, or not a float32.
    """
    pairs = weights.items() if isinstance(weights, Mapping) else _split(weights, where)
    by_name: dict[str, float] = {}
    for name, value in pairs:
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or number < 0:
            raise UsageError(f"{where}: the weight of {name!r} must be a number of at least 0, not {shown(value)}")
        if number and not _MIN_WEIGHT <= number <= _MAX_WEIGHT:
            raise UsageError(
                f"{where}: the weight of {name!r}, {number:g}, does not fit float32; only the ratios matter"
            )
        if name in by_name:
            raise UsageError(f"{where}: the type {name!r} has two weights; give one")
        by_name[name] = number
    return by_name


def _split(text: str, where: str) -> list[tuple[str, str]]:
    pairs = []
    for part in text.split(",") if text.strip() else []:
        name, equals, value = part.rpartition("=")  # a type's name may have one
        if not equals or not name.strip():
            raise UsageError(f"{where}: {shown(part)} is not a weight; write them as view=1,cart=3,purchase=8")
        pairs.append((name.strip(), value.strip()))
    return pairs


def by_code(weights: TypeWeights, type_names: Sequence[str], where: str = "weights") -> np.ndarray | None:
    """Return the weights by the types' codes: float32[K], 1 for a type without one; None if all are 1.

    weights: see `parsed`. type_names: the types of the data set, in the order of their codes. where: names the setting
    in an error.

    Raises UsageError if a type is unknown, or all weights are 0.
    """
    by_name = parsed(weights, where)
    if not by_name:
        return None
    if not type_names:
        raise UsageError(f"{where}: the data set's clicks have no types; prepare it with --type COLUMN")
    for name in by_name:
        if name not in type_names:
            raise UsageError(
                f"{where}: there is no type {shown(name)} in the data set; its types are {', '.join(type_names)}"
            )
    codes = np.array([by_name.get(name, 1.0) for name in type_names], dtype=np.float32)
    if not codes.any():
        raise UsageError(f"{where}: every type of the data set has the weight 0; give one a weight above 0")
    return None if (codes == 1).all() else codes
