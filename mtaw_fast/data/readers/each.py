"""Who runs the steps of a piece of work: this process one after the other, or whatever else is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

# each(function, calls): `function(*call)` for every call, results in that order; raises what the first that fails did.
Each = Callable[[Callable[..., Any], Iterable[Sequence[Any]]], list[Any]]


def one_by_one(function: Callable[..., Any], calls: Iterable[Sequence[Any]]) -> list[Any]:
    """All calls in this process, in that order."""
    return [function(*call) for call in calls]
