"""What an evaluation knows about the items: how often training clicked them, since when, what they are like.

Axes: N items of a data set, A attributes, d.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.evaluation.list_metrics import information_of
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import BooleanColumn, CategoriesColumn, CategoryColumn, NumberColumn
from mtaw_fast.system.figures import figure

_MAX_ATTRIBUTES = 8  # of the diversity
_MAX_VALUES = 50  # of an attribute that is a slice without being asked for
_QUARTERS = (25, 50, 75)


@dataclass(frozen=True, slots=True, eq=False)
class Attribute:
    """An attribute of the items.

    codes: int32[N], indices of `labels`, -1 for a missing value. ordered: whether the order of the labels means
    something, as for quarters of numbers.
    """

    name: str
    codes: np.ndarray
    labels: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class ItemFacts:
    """Facts about N items.

    clicks: int64[N], in training. information: float64[N], `list_metrics.information_of`.
    first_click: int64[N], Unix milliseconds of the first click in training, the largest int64 without one; None without
    times. vectors: float32[N, d] of length 1 (or 0), for the diversity; None if it goes by `attributes`.
    sessions: how many the training has. last_click: Unix milliseconds of its last click; None without times.
    """

    clicks: np.ndarray
    information: np.ndarray
    first_click: np.ndarray | None = None
    vectors: np.ndarray | None = None
    attributes: tuple[Attribute, ...] = ()
    sessions: int = 1
    last_click: int | None = None

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.clicks)

    @classmethod
    def of(cls, train: Sessions, n_items: int) -> ItemFacts:
        """Return the facts that the training sessions give: clicks, information and first clicks."""
        clicks = np.bincount(train.items, minlength=n_items)
        sessions_with = np.bincount(train.items[train.first_clicks()], minlength=n_items)
        first_click = last_click = None
        if train.times is not None:
            last_click = int(train.times.max(initial=0))
            first_click = np.full(n_items, np.iinfo(np.int64).max)
            np.minimum.at(first_click, train.items, train.times)
        return cls(clicks, information_of(sessions_with, len(train)), first_click, None, (), len(train), last_click)

    def with_content(self, attributes: tuple[Attribute, ...], vectors: np.ndarray | None) -> ItemFacts:
        """Return the facts with the attributes of the items, and with vectors if no attribute describes the items."""
        diverse = tuple(attribute for attribute in attributes if _describes(attribute))[:_MAX_ATTRIBUTES]
        return dataclasses.replace(self, attributes=diverse, vectors=None if diverse else vectors)

    def renumbered(self, internal: np.ndarray, n_items: int) -> ItemFacts:
        """Return the facts of another catalog. internal: int[N], the other id of each item, -1 for none.

        Items that only the other catalog has were never clicked; their vectors and attributes are missing.
        """
        if n_items == self.n_items and np.array_equal(internal, np.arange(n_items)):
            return self
        known = internal >= 0
        internal_ids = internal[known]

        def moved(values: np.ndarray, missing: float) -> np.ndarray:
            result = np.full((n_items, *values.shape[1:]), missing, dtype=values.dtype)
            result[internal_ids] = values[known]
            return result

        return ItemFacts(
            moved(self.clicks, 0),
            moved(self.information, float(information_of(np.zeros(1), self.sessions)[0])),
            None if self.first_click is None else moved(self.first_click, np.iinfo(np.int64).max),
            None if self.vectors is None else moved(self.vectors, 0.0),
            tuple(dataclasses.replace(attribute, codes=moved(attribute.codes, -1)) for attribute in self.attributes),
            self.sessions,
            self.last_click,
        )


def attributes_of(table: ItemTable | None, rows: np.ndarray) -> tuple[Attribute, ...]:
    """Return the attributes in an item table: categories, booleans, and numbers by quarter.

    rows: int[N], the row of each item, -1 for none. Several categories of an item count as one value. Texts, times and
    vectors are no attributes, and the column of the availability is none.
    """
    if table is None:
        return ()
    attributes = []
    for name, column in table.columns.items():
        if name == table.availability:
            continue
        labels: tuple[str, ...]
        if isinstance(column, CategoryColumn):
            values, labels = column.codes, tuple(column.labels)
        elif isinstance(column, BooleanColumn):
            values, labels = column.values.astype(np.int32), ("no", "yes")
        elif isinstance(column, NumberColumn):
            values, labels = _quarters(column.values)
        elif isinstance(column, CategoriesColumn):
            values, labels = _sets(column)
        else:
            continue
        inside = (rows >= 0) & (rows < len(values))
        codes = np.where(inside, values[np.where(inside, rows, 0)], -1) if len(values) else np.full(len(rows), -1)
        attributes.append(Attribute(name, codes.astype(np.int32), labels, isinstance(column, NumberColumn)))
    return tuple(attributes)


def is_short(attribute: Attribute) -> bool:
    """Whether an attribute has so few values that it is a slice by default."""
    return 1 < len(attribute.labels) <= _MAX_VALUES


def _describes(attribute: Attribute) -> bool:
    """Whether an attribute groups items. One that differs for most items does not: it is a name."""
    known = attribute.codes[attribute.codes >= 0]
    return 1 < len(np.unique(known)) <= max(len(known) // 2, 1)


def _quarters(values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return codes of the quarters of numbers, and their labels."""
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(values), -1, dtype=np.int32), ()
    cuts = np.unique(np.percentile(values[known], _QUARTERS))
    cuts = cuts[cuts < values[known].max()]
    codes = np.where(known, np.searchsorted(cuts, np.where(known, values, 0.0)), -1).astype(np.int32)
    if not len(cuts):
        return codes, (figure(values[known].max(), 6),)
    # Dates written as numbers, such as 20231115, need more than four digits to differ.
    texts = next(
        texts for digits in range(4, 18) if len(set(texts := [figure(cut, digits) for cut in cuts])) == len(cuts)
    )
    between = [f"{low} to {high}" for low, high in pairwise(texts)]
    return codes, (f"up to {texts[0]}", *between, f"over {texts[-1]}")


def _sets(column: CategoriesColumn) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a code for each distinct set of labels, and the sets as texts."""
    known = np.flatnonzero(~column.missing)
    codes = np.full(column.n_rows, -1, dtype=np.int32)
    if not len(known):
        return codes, ()
    # A set's key is the sum of random numbers, one a label: the order of the labels does not matter.
    keys = np.random.default_rng(0).integers(np.iinfo(np.int64).max, size=len(column.labels), dtype=np.int64)
    with np.errstate(over="ignore"):
        sums = np.add.reduceat(keys[column.codes], column.offsets[:-1][known])
    _, first, numbers = np.unique(sums, return_index=True, return_inverse=True)
    codes[known] = numbers.reshape(-1)
    labels = [", ".join(sorted(values)) for values in column.values_at(known[first])]
    return codes, tuple(labels)
