"""Numbers of an item's attributes, as the inputs of a linear model. Axes: n items, F features."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from mtaw_fast.items.columns import (
    BooleanColumn,
    CategoriesColumn,
    CategoryColumn,
    Column,
    NumberColumn,
    TextColumn,
    TimeColumn,
    VectorColumn,
)
from mtaw_fast.items.table import ItemTable

MAX_LABELS = 1000  # of a column, the most frequent ones
MIN_ITEMS = 2  # that have a label
_BINS = 8  # of a number or a time, of equally many items
_HASHED_WORDS = 256
_WORD = re.compile(r"\w+")

Embed = Callable[[Sequence[str]], np.ndarray]  # texts to float32[n, d]


@dataclass(frozen=True)
class ContentFeatures:
    """How the columns of an item table become features.

    columns: for each column, what JSON can hold: its name, its kind, and `labels`, `edges`, `scale` or `d`, as the kind
    needs. Columns that a table lacks, missing values and unknown labels give zeros.
    """

    columns: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, table: ItemTable, rows: np.ndarray, text_d: int = _HASHED_WORDS) -> ContentFeatures:
        """Return the features of a table's columns. Their scales and labels are taken from rows int[n].

        text_d: how many features a text has.
        """
        columns = []
        for name, column in table.columns.items():
            about = _about(column.taken(rows), text_d)
            if name != table.availability and about is not None:
                columns.append({"name": name, "kind": column.kind, **about})
        return cls(tuple(columns))

    @property
    def count(self) -> int:
        """F."""
        return sum(_width(about) for about in self.columns)

    @property
    def has_text(self) -> bool:
        """Whether a column is text."""
        return any(about["kind"] == TextColumn.kind for about in self.columns)

    def of_rows(self, table: ItemTable, rows: np.ndarray, embed: Embed | None = None) -> np.ndarray:
        """Return the features float32[n, F] of rows int[n]. Rows after the table's last have zeros.

        embed: computes the vectors of texts; None for hashed words.
        """
        parts = [np.zeros((len(rows), 0), dtype=np.float32)]
        inside = rows < table.n_rows
        for about in self.columns:
            part = np.zeros((len(rows), _width(about)), dtype=np.float32)
            column = table.columns.get(about["name"])
            if column is not None and column.kind == about["kind"] and inside.any():
                part[inside] = _values(column.taken(rows[inside]), about, embed)
            parts.append(part)
        return np.concatenate(parts, axis=1)


def _about(column: Column, text_d: int) -> dict[str, Any] | None:
    """Return the labels, edges or scale that a column's features need; None if they would not differ between items."""
    if isinstance(column, (CategoryColumn, CategoriesColumn)):
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.labels))
        order = np.argsort(-counts, kind="stable")[:MAX_LABELS]
        labels = [column.labels[code] for code in order.tolist() if counts[code] >= MIN_ITEMS]
        return {"labels": labels} if labels else None
    if isinstance(column, (NumberColumn, TimeColumn)):
        known = column.values[~column.missing].astype(np.float64)
        known = known[np.isfinite(known)]
        edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS)) if len(known) else known
        return {"edges": edges.tolist()} if len(known) and known.min() < known.max() else None
    if isinstance(column, VectorColumn):
        known = column.values[~column.missing].astype(np.float64)
        scale = float(np.sqrt(np.mean(known**2))) if known.size else 0.0
        return {"d": column.d, "scale": 1 / scale} if scale > 0 else None
    if isinstance(column, TextColumn):
        return {"d": text_d} if len(column.data) else None
    return {} if not column.missing.all() else None


def _width(about: Mapping[str, Any]) -> int:
    if "labels" in about:
        return len(about["labels"])
    if "edges" in about:
        return len(about["edges"]) + 1
    return int(about.get("d", 1))


def _values(column: Column, about: Mapping[str, Any], embed: Embed | None) -> np.ndarray:
    features = np.zeros((column.n_rows, _width(about)), dtype=np.float32)
    if isinstance(column, CategoryColumn):
        indices = _feature_indices(column.labels.codes, about["labels"])[column.codes]
        rows = np.flatnonzero(indices >= 0)
        features[rows, indices[rows]] = 1
    elif isinstance(column, CategoriesColumn):
        indices = _feature_indices(column.labels.codes, about["labels"])[column.codes]
        counts = np.diff(column.offsets)
        rows = np.repeat(np.arange(column.n_rows), counts)
        known = indices >= 0
        np.add.at(features, (rows[known], indices[known]), (1 / np.sqrt(counts[rows[known]])).astype(np.float32))
    elif isinstance(column, (NumberColumn, TimeColumn)):
        rows = np.flatnonzero(~column.missing)
        features[rows, np.searchsorted(about["edges"], column.values[rows], side="right")] = 1
    elif isinstance(column, BooleanColumn):
        features[:, 0] = np.where(column.missing, 0, 2 * column.values.astype(np.float32) - 1)
    elif isinstance(column, VectorColumn) and column.d == about["d"]:
        features[:] = np.nan_to_num(column.values, posinf=0, neginf=0) * np.float32(about["scale"])
    elif isinstance(column, TextColumn):
        texts = [text or "" for text in column.values_at(np.arange(column.n_rows))]
        features[:] = _hashed(texts, about["d"]) if embed is None else _embedded(texts, embed, about["d"])
    return features


def _feature_indices(codes: Mapping[str, int], labels: Sequence[str]) -> np.ndarray:
    """Return int32[codes + 1]: the feature of each code; -1 for the others, and at -1."""
    indices = np.full(len(codes) + 1, -1, dtype=np.int32)
    for index, label in enumerate(labels):
        code = codes.get(label)
        if code is not None:
            indices[code] = index
    return indices


def _hashed(texts: Sequence[str], d: int) -> np.ndarray:
    """Return float32[n, d]: the words of each text, hashed, at length 1."""
    features = np.zeros((len(texts), d), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            features[row, crc32(word.encode()) % d] += 1
    lengths = np.sqrt((features**2).sum(axis=1, keepdims=True))
    return np.divide(features, lengths, out=features, where=lengths > 0)


def _embedded(texts: Sequence[str], embed: Embed, d: int) -> np.ndarray:
    rows = [row for row, text in enumerate(texts) if text]
    features = np.zeros((len(texts), d), dtype=np.float32)
    if rows:
        features[rows] = np.nan_to_num(embed([texts[row] for row in rows]))
    return features
