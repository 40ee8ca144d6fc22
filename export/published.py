"""What a page's bundle has of a model. Whoever opens the page can read all of it, so it has

    pairs of items instead of sessions, and of when they were clicked only which share of the log ago
    rounded counts and sums
    the public columns of the item table, without the rows of items that are not recommended
    the settings of the model and of its memory, but no others

Axes: N items, S sessions, P pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.context import ClickContext
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import CategoriesColumn, CategoryColumn, Column
from mtaw_fast.items.labels import Labels
from mtaw_fast.kernels.native.memory_tables import COUNTS, PAIR_KINDS
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.bfloat16 import from_bfloat16, to_bfloat16
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.side_features import AGE
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model

MAX_NEIGHBORS = 128  # of an item: more take a page's time and memory, and change nothing (docs/browser.md)
_STEPS = 10  # a decade, below 100
_SMALL = np.array([0, 3, 3, 3, 3, 5, 5, 7, 7])  # what counts become that steps would leave as they are
_AGES, _GROUP = 100, 100  # into how many ages sessions are divided, at most, and how many sessions have one, at least
_HOUR = 3_600_000
_BFLOATS = np.arange(0x7F80, dtype=np.uint16)  # all finite ones of at least 0
_SES, _NEWEST = PAIR_KINDS.index("ses"), COUNTS.index("newest")


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a page's bundle leaves out of the item table.

    columns: the names of private columns. read: those of them that the ranker reads; to it, their values are missing.
    waiting: rows of ids that are not in the catalog. hidden: items that are not recommended. placements: their number.
    """

    columns: tuple[str, ...]
    read: tuple[str, ...]
    waiting: int
    hidden: int
    placements: int


def published(model: Model, pairs: np.ndarray, trend_pairs: np.ndarray) -> tuple[Model, Withheld]:
    """Return what a page's bundle has of a model, and what it lacks.

    pairs, trend_pairs: int64[..], the indices of the pairs of the memory and of the trends that it has, ascending.
    """
    popularity = rounded_counts(model.popularity)
    unavailable = _unavailable(model)
    net, context, items = model.ranker_net, model.context, model.items
    public = () if items is None else items.public
    private_read = tuple(name for name in _columns_read(net) if name not in public)
    left_out = Withheld(
        () if items is None else tuple(name for name in items.columns if name not in public),
        () if items is None else tuple(name for name in private_read if name in items.columns),
        0 if items is None else len(items.waiting.ids),
        int(unavailable.sum()),
        0 if items is None else len(items.placements),
    )
    page = replace(
        model,
        config=Config(model=model.config.model, memory=model.config.memory),
        popularity=popularity,
        most_clicked=np.argsort(-popularity, kind="stable").astype(np.int32),
        memory=None if model.memory is None else published_memory(model.memory, pairs),
        ranker_net=None if net is None else _without_names(net, private_read),
        trends=None if model.trends is None else published_trends(model.trends, trend_pairs),
        items=None if items is None or not public else _public_table(items, unavailable),
        context=None if context is None else ClickContext(context.columns, context.codes[:0]),
        log_progress=(
            LogProgress("", "", removed=np.flatnonzero(unavailable).astype(np.int32)) if unavailable.any() else None
        ),
        content=None,
        clicked_at=None,
        types=None,
    )
    return page, left_out


def rounded(numbers: np.ndarray) -> np.ndarray:
    """Return numbers of at least 0, rounded to few different ones: float64.

    Below 100 there are ten steps a decade; larger numbers have two significant digits. The order stays, but for ties.
    """
    numbers = np.asarray(numbers, dtype=np.float64)
    with np.errstate(divide="ignore"):
        decades = np.log10(numbers)  # -inf of 0
    steps = 10.0 ** (np.rint(decades * _STEPS) / _STEPS)
    unit = 10.0 ** np.maximum(np.floor(decades) - 1, 0)
    return np.where(numbers < 100, steps, np.rint(numbers / unit) * unit)


def rounded_counts(counts: np.ndarray) -> np.ndarray:
    """Return whole numbers of at least 0 as `rounded` does, but so that every one stands for several counts; 0 stays.

    The type stays too.
    """
    small = _SMALL[np.minimum(counts, len(_SMALL) - 1)]
    return np.where(counts < len(_SMALL), small, np.rint(rounded(counts))).astype(counts.dtype)


def strongest_pairs(tables: MemoryTables, min_sessions: int = 1) -> np.ndarray:
    """Return int64[..]: indices of pairs, those to keep first, and at most `MAX_NEIGHBORS` of an item.

    min_sessions: how many sessions with both items a pair has, at least.

    The neighbors of an item are ranked by their strength (`MemoryTables`) plus twice their cosine, ses / sqrt((total of
    the item + 1) (total of the neighbor + 1)). Pairs come by rank / sqrt(clicks of the item * ses), ties in the order
    of the tables: where some are cut off, an item with four times the clicks keeps twice as many.
    """
    pairs = np.flatnonzero(sessions_of(tables) >= min_sessions) if min_sessions > 1 else np.arange(len(tables.latest))
    rows, neighbors = _rows_of(tables)[pairs], tables.neighbors[pairs]
    values, totals = from_bfloat16(tables.values[pairs]), tables.totals + np.float32(1)
    strength = 2 * values[:, _SES] / np.sqrt(totals[rows, _SES] * totals[neighbors, _SES])
    for kind in map(PAIR_KINDS.index, ("fwd", "bwd", "ses", "rec")):
        strength += values[:, kind] / totals[rows, kind]
    rank = np.empty(len(pairs))
    rank[np.lexsort((-strength, rows))] = 1 + np.arange(len(pairs)) - np.searchsorted(rows, rows)
    clicks = np.maximum(tables.counts[rows, COUNTS.index("clicks")], 1)
    order = np.argsort(rank / np.sqrt(clicks * np.maximum(values[:, _SES], 1)), kind="stable")
    first: np.ndarray = pairs[order[rank[order] <= MAX_NEIGHBORS]]
    return first


def trend_pairs_of(tables: MemoryTables, trends: TrendTables, min_sessions: int = 1) -> np.ndarray:
    """Return int64[..]: indices of the trends' pairs that at least `min_sessions` sessions have, by the memory."""
    if min_sessions <= 1:
        return np.arange(len(trends.neighbors))
    shared, numbers = sessions_of(tables) >= min_sessions, [
        _rows_of(part) * part.n_items + part.neighbors for part in (tables, trends)
    ]  # fmt: skip
    return np.flatnonzero(np.isin(numbers[1], numbers[0][shared]))


def sessions_of(tables: MemoryTables) -> np.ndarray:
    """Return float32[P]: how many sessions have each pair."""
    return from_bfloat16(tables.values[:, _SES])


def _rows_of(tables: MemoryTables | TrendTables) -> np.ndarray:
    """Return int64[P]: the item in whose row each pair is."""
    return np.repeat(np.arange(tables.n_items), np.diff(tables.row_offsets))


def published_memory(tables: MemoryTables, pairs: np.ndarray) -> MemoryTables:
    """Return the tables with some pairs alone, by ascending indices, rounded, and no session.

    Sessions get new numbers, which only say how old they are, in at most 100 steps of at least 100 sessions each. There
    are as few numbers as the counts of sessions of an item allow: their true number is not published either.
    """
    before = max(tables.n_sessions, 1)
    ages = max(1, min(_AGES, before // _GROUP))
    newest = tables.counts[:, _NEWEST]
    counts = rounded_counts(np.maximum(tables.counts, 0))
    most = int(counts[:, COUNTS.index("sessions")].max(initial=0))
    step = max(-(-most // ages), 1)

    def middle(sessions: np.ndarray) -> np.ndarray:
        return (sessions.astype(np.int64) * ages // before * step + step // 2).astype(np.int32)

    counts[:, _NEWEST] = np.where(newest < 0, -1, middle(newest))
    recency = tables.settings.recency
    assert recency is not None
    cap = tables.settings.max_neighbors
    settings = replace(
        tables.settings,
        recency=recency * ages * step / before,
        max_neighbors=min(cap, MAX_NEIGHBORS) if cap else MAX_NEIGHBORS,
        once_from=None,
    )
    n_items = tables.n_items
    return MemoryTables(
        row_offsets=np.searchsorted(pairs, tables.row_offsets),
        neighbors=tables.neighbors[pairs],
        latest=middle(tables.latest[pairs]),
        values=to_bfloat16(rounded(from_bfloat16(_BFLOATS)))[tables.values[pairs]],
        totals=rounded(tables.totals).astype(np.float32),
        counts=counts,
        post_offsets=np.zeros(n_items + 1, dtype=np.int64),
        postings=np.empty(0, dtype=np.int32),
        session_offsets=np.zeros(ages * step + 1, dtype=np.int64),
        session_items=np.empty(0, dtype=np.int32),
        settings=settings,
    )


def published_trends(trends: TrendTables, pairs: np.ndarray) -> TrendTables:
    """Return the trends with some pairs alone, by ascending indices, rounded. Items' times are whole hours."""
    clock, lives = trends.clock.copy(), trends.settings.half_lives_ms
    # The latest time before the newest click that leaves every lane's t0 as it is.
    clock[-1] = newest = max(epoch * half_life for epoch, half_life in zip(clock[:-1].tolist(), lives, strict=True))
    times = np.minimum(trends.times // _HOUR * _HOUR, newest)
    context = dict(trends.context or {})
    context |= {name: rounded(sums).astype(sums.dtype) for name, sums in context.items() if sums.dtype.kind == "f"}
    return replace(
        trends,
        row_offsets=np.searchsorted(pairs, trends.row_offsets),
        neighbors=trends.neighbors[pairs],
        values=to_bfloat16(rounded(from_bfloat16(_BFLOATS)))[trends.values[pairs]],
        totals=rounded(trends.totals).astype(np.float32),
        counts=rounded(trends.counts).astype(np.float32),
        times=np.where(trends.times < 0, trends.times, times),
        sums=rounded(trends.sums),
        clock=clock,
        context=context or None,
    )


def _unavailable(model: Model) -> np.ndarray:
    """Return bool[N]: the items that are not recommended, for whatever reason."""
    mask = None if model.items is None else model.items.withheld(model.ids, model.n_items)
    mask = np.zeros(model.n_items, dtype=bool) if mask is None else mask
    if model.log_progress is not None:
        mask[model.log_progress.unavailable] = True
    return mask


def _public_table(items: ItemTable, unavailable: np.ndarray) -> ItemTable:
    """Return the public columns, in which the rows bool[N] are missing, and nothing else of the table."""
    rows = np.where(unavailable, items.n_rows, np.arange(items.n_rows))  # a row after the last, whose value is missing
    columns = {name: _rewritten(items.columns[name], rows) for name in items.public}
    return ItemTable(items.n_rows, columns)


def _rewritten(column: Column, rows: np.ndarray) -> Column:
    """Return the column of rows int[N], with the labels alone that these have."""
    empty: Column = replace(column.resized(0).resized(len(rows)), version=0)
    if isinstance(empty, CategoryColumn | CategoriesColumn):
        empty = replace(empty, labels=Labels.of(()))
    return empty.patched(np.arange(len(rows)), column.resized(column.n_rows + 1).taken(rows))


def _columns_read(net: RankerNet | None) -> Iterator[str]:
    """Yield the columns of the item table that a ranker reads."""
    if net is not None and net.has_trends:
        yield from net.side.categories
        if net.side.created is not None:
            yield net.side.created


def _without_names(net: RankerNet, columns: Sequence[str]) -> RankerNet:
    """Return the ranker with other names for some columns, which no column can have: they begin with a space."""
    numbers = {name: number for number, name in enumerate(columns, 1)}

    def renamed(feature: str) -> str:
        for prefix in ("i_same_", "i_part_", AGE):
            number = numbers.get(feature.removeprefix(prefix)) if feature.startswith(prefix) else None
            if number is not None:
                return f"{prefix} private {number}"
        return feature

    return RankerNet(features=tuple(map(renamed, net.features)), **net.arrays())
