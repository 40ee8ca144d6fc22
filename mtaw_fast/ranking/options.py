"""What a caller may ask of a recommendation, gathered and checked in one place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, TypedDict

from mtaw_fast.data.filters import Filter
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.conditions import Conditions, checked_k, conditions_of


class OptionKeywords(TypedDict, total=False):
    """The keywords of `Recommender.recommend`, `recommend_batch` and `GrowingSession.recommend`; see `options_of`."""

    exclude: Iterable[Any]
    allow: Iterable[Any] | None
    exclude_seen: bool
    filter: Filter | None
    at: int | None
    repeats: bool
    reasons: bool


class Options(NamedTuple):
    """The same, checked.

    Attributes
    ----------
    k : int
        Items wanted, 1 to N.
    conditions : Conditions
        Which items may be found.
    repeats, reasons : bool
        What the answer tells beside the items; see `Recommendations`.
    """

    k: int
    conditions: Conditions
    repeats: bool = False
    reasons: bool = False


def options_of(
    catalog: Catalog,
    k: int,
    exclude: Iterable[Any] = (),
    allow: Iterable[Any] | None = None,
    exclude_seen: bool = False,
    filter: Filter | None = None,
    at: int | None = None,
    repeats: bool = False,
    reasons: bool = False,
) -> Options:
    """The options of one call on a catalog; `Recommender.recommend` says what each means.

    Raises UsageError on a k that is no positive whole number, on lists that are none, and on a filter of another
    catalog.
    """
    conditions = conditions_of(catalog, exclude, allow, filter, exclude_seen, at)
    return Options(checked_k(k, catalog.n_items), conditions, repeats, reasons)
