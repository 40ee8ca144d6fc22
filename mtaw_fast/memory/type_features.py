"""The ranker's features of the types of clicks, by name; `kernels/native/memory/type_features.hpp` has the formulas."""

from __future__ import annotations

from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native.memory_query import MAX_TYPES

PREFIX = "e_"  # begins these names alone
PARTS = ("e_last_", "e_near_", "e_own_")


def type_feature_names(types: ClickTypes) -> tuple[str, ...]:
    """Return the names of the features of some types, in their order."""
    return tuple(f"{part}{name}" for part in PARTS for name in types.names)


def types_in(features: tuple[str, ...]) -> ClickTypes:
    """Return the types that a ranker with these features reads.

    Raises DataError if its features of types are not this release's.
    """
    names = tuple(name for name in features if name.startswith(PREFIX))
    types = ClickTypes(tuple(name.removeprefix(PARTS[0]) for name in names if name.startswith(PARTS[0])))
    if type_feature_names(types) != names or len(types) > MAX_TYPES:
        raise DataError("ranker: its features of the types of clicks are not this release's; retrain the bundle")
    return types
