"""Exploration: a share of a list goes to new items until they were shown enough, drawn from the best for the session.

New are the items that came since the training (`Catalog.new_items`). The items that are placed replace the last ones of
the list. Nothing that holds for the list is broken: conditions and filters hold, limits count the placed items too,
pins stay where they are, also behind the list, and what boosts bury is not placed.

Each item is drawn from up to four candidates, and the answer keeps these with the chance (`Draw`): what other items
would have earned at the position can be estimated then (`mtaw_fast.experiment.estimate`).
"""

from __future__ import annotations

import random
import time
from bisect import bisect
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import accumulate, zip_longest
from typing import NamedTuple
from zlib import crc32

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import NO_TIME
from mtaw_fast.items.unclicked_order import NO_CATEGORY, OWN
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.ranking.answer import Draw, Reason, Recommendations
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.item_content import content_arrays
from mtaw_fast.ranking.options import Conditions, Options
from mtaw_fast.rules import AppliedRules
from mtaw_fast.system.fork_lock import ForkLock

_DEPTH = 4  # candidates of a position, and how many are read for each, for limits that leave some of them out
_PARTS = (12, 6, 4, 3)  # of the chances, which fall as 1 / rank
# By the number of candidates: their chances, and the sums of these.
CHANCES = [[part / sum(_PARTS[:n]) for part in _PARTS[:n]] for n in range(_DEPTH + 1)]
_SUMS = [list(accumulate(chances)) for chances in CHANCES]

# (how many items, conditions) to internal ids int32[..], best first.
Rank = Callable[[int, Conditions], np.ndarray]
# (clicks int32[m], internal ids int32[..]) to a reason for each id.
Reasons = Callable[[np.ndarray, np.ndarray], list[Reason]]


class NewItem(NamedTuple):
    """What became of a new item.

    item: its id. displays: how often lists with exploration have shown it; with learning, by all processes. clicks: how
    often it was clicked. explored: whether it still gets a share of the lists.
    """

    item: int | str
    displays: int
    clicks: int
    explored: bool


class Impressions:
    """How often one process has shown new items since that was last stored (`take`). Thread-safe."""

    def __init__(self) -> None:
        self._counts = np.zeros(0, dtype=np.int64)
        self._owed = 0.0  # parts of positions for exploration that empty sessions have not had yet
        self._lock = ForkLock()

    def add(self, items: np.ndarray) -> None:
        """Count an answer of the internal ids int32[k]."""
        with self._lock:
            self._grow(int(items.max(initial=-1)) + 1)
            self._counts[items] += 1

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the counted internal ids int64[n] and their counts int64[n], and set them to 0."""
        with self._lock:
            items = np.flatnonzero(self._counts)
            counts = self._counts[items]
            self._counts[items] = 0
        return items, counts

    def copy(self) -> Impressions:
        """Return the same counts, apart from these."""
        copied = Impressions()
        with self._lock:
            copied._counts, copied._owed = self._counts.copy(), self._owed
        return copied

    def of(self, catalog: Catalog) -> np.ndarray:
        """Return int64[..]: how often each of the catalog's new items was shown."""
        with self._lock:
            self._grow(catalog.size)
            counts = self._counts[catalog.new_items]
        return counts if catalog.displays is None else counts + catalog.displays[catalog.new_items]

    def positions(self, share: float, k: int, clicks: np.ndarray) -> int:
        """Return how many of k positions are for exploration: share * k, rounded up or down.

        The mean over sessions is the share. A hash of the clicks decides, so a session gets the same number each time.
        Without clicks, each answer takes what rounding down has left of the ones before.
        """
        if len(clicks):
            return int(share * k + crc32(np.ascontiguousarray(clicks).tobytes()) / 2**32)
        with self._lock:
            self._owed += share * k
            count = int(self._owed)
            self._owed -= count
        return count

    def _grow(self, size: int) -> None:
        if size > len(self._counts):
            counts = np.zeros(max(size, 2 * len(self._counts)), dtype=np.int64)
            counts[: len(self._counts)] = self._counts
            self._counts = counts


def new_items_of(catalog: Catalog, impressions: Impressions, below: int) -> list[NewItem]:
    """Return what became of each new item of a catalog, in the order in which they came."""
    displays, clicks = impressions.of(catalog), catalog.popularity[catalog.new_items]
    columns = displays.tolist(), clicks.tolist(), (displays + clicks < below).tolist()
    return [NewItem(*row) for row in zip(catalog.ids.external(catalog.new_items), *columns, strict=True)]


def with_explored(
    catalog: Catalog,
    impressions: Impressions,
    answer: Recommendations,
    clicks: np.ndarray,
    options: Options,
    rank: Rank,
    reasons: Reasons,
) -> Recommendations:
    """Return an answer with its share of new items, and count which of them it shows.

    answer: to the known clicks int32[m], without exploration. options: with `explore`. rank: ranks the session's items
    under conditions. reasons: gives those of items in an answer.
    """
    assert options.explore is not None
    is_rare = impressions.of(catalog) + catalog.popularity[catalog.new_items] < options.explore.below
    if not is_rare.any():
        return replace(answer, explored=np.zeros(len(answer.items), dtype=bool))
    rare = np.zeros(catalog.size, dtype=bool)
    rare[catalog.new_items[is_rare]] = True
    rare[clicks] = False
    ranked = catalog.ids.lookup(answer.items)
    is_rare_at = rare[ranked]
    count = impressions.positions(options.explore.share, len(ranked), clicks) - int(np.count_nonzero(is_rare_at))
    if count <= 0:
        impressions.add(ranked[is_rare_at])
        return replace(answer, explored=np.zeros(len(ranked), dtype=bool))
    listed, is_new, draws = _listed(catalog, rare, count, ranked, clicks, options, rank)
    impressions.add(np.concatenate([ranked[is_rare_at], listed[is_new]]))
    if not draws:
        return replace(answer, explored=is_new)
    new_reasons = reasons(clicks, listed[is_new]) if answer.reasons is not None else []
    return _assembled(catalog, answer, ranked, options, listed, is_new, new_reasons, draws)


def _listed(
    catalog: Catalog,
    rare: np.ndarray,
    count: int,
    ranked: np.ndarray,
    clicks: np.ndarray,
    options: Options,
    rank: Rank,
) -> tuple[np.ndarray, np.ndarray, list[_Drawn]]:
    """Return the list with exploration: internal ids int32[n], bool[n], which of them were placed, and their draws.

    rare: bool[size], the new items to explore. count: how many of them to place.
    """
    assert options.explore is not None
    unchanged = ranked, np.zeros(len(ranked), dtype=bool), list[_Drawn]()
    applied = None
    if options.rules is not None:
        applied = catalog.bound_rules.bound(options.rules, int(clicks[-1]) if len(clicks) else None)
    conditions, pinned = options.conditions, list[int]()
    if applied is not None:
        pinned = applied.native.shown_pins(
            np.ascontiguousarray(clicks), conditions.excluded, conditions.bits, conditions.exclude_seen
        )
        conditions = conditions.within(applied.filter)
    fixed = np.isin(ranked, pinned) if pinned else np.zeros(len(ranked), dtype=bool)
    count = min(count, int(np.count_nonzero(~fixed & ~rare[ranked])))
    if count <= 0:
        return unchanged
    eligible = rare & ~catalog.unavailable
    eligible[ranked] = False
    if pinned:
        eligible[pinned] = False  # those behind the list, too, have their positions
    if applied is not None and applied.buried is not None:
        eligible &= ~applied.buried
    if not eligible.any():
        return unchanged
    if conditions.allowed is not None:
        eligible &= conditions.allowed.mask
    candidates = rank(_DEPTH * count, conditions._replace(allowed=Filter(eligible)))
    candidates = _with_unclicked(catalog, candidates, eligible, clicks, conditions, len(candidates))
    seed = options.explore.seed
    draw = random.random if seed is None else random.Random(seed).random
    while count:
        is_kept = _without_last(fixed | rare[ranked], count)
        fitting = None if applied is None else partial(_fitting, applied, ranked[is_kept])
        draws = _drawn(candidates, count, draw, fitting)
        if len(draws) == count:
            return *_placed(ranked, is_kept, fixed, [one.item for one in draws]), draws
        count = min(count - 1, len(draws))
    return unchanged


class _Drawn(NamedTuple):
    """A drawn internal id, those that it was drawn from, and its chance."""

    item: int
    candidates: list[int]
    chance: float


def _drawn(
    candidates: np.ndarray, count: int, draw: Callable[[], float], fitting: Callable[..., list[int]] | None
) -> list[_Drawn]:
    """Return up to `count` draws, each from the first `_DEPTH` candidates that are left, the better the likelier.

    draw: returns a number in [0, 1). fitting: returns which of the candidates fit next to those drawn; None: all do.
    """
    draws: list[_Drawn] = []
    left = candidates.tolist()
    while len(draws) < count:
        pool = left[:_DEPTH] if fitting is None else fitting(left, [one.item for one in draws])
        if not pool:
            break
        number = min(bisect(_SUMS[len(pool)], draw()), len(pool) - 1)  # the last sum may be rounded down
        draws.append(_Drawn(pool[number], pool, CHANCES[len(pool)][number]))
        left.remove(pool[number])
    return draws


def _fitting(applied: AppliedRules, kept: np.ndarray, left: list[int], drawn: list[int]) -> list[int]:
    """Return the first `_DEPTH` items that the limits of rules let stand next to those that are kept or drawn."""
    first, beside = np.array(left[:_DEPTH], dtype=np.int32), np.concatenate([kept, np.array(drawn, dtype=np.int32)])
    within = applied.native.within_limits
    together = within(beside, first, _DEPTH)
    if len(together) == len(first):  # then each does alone
        return together
    return [item for item in left if within(beside, np.array([item], dtype=np.int32), 1)][:_DEPTH]


def _with_unclicked(
    catalog: Catalog, ranked: np.ndarray, eligible: np.ndarray, clicks: np.ndarray, conditions: Conditions, count: int
) -> np.ndarray:
    """Return a list in which unclicked items and the other ranked items take turns.

    `UnclickedOrder` ranks the unclicked items, by age and category. A bundle without one gets `ranked` as it is.

    ranked: the best of the eligible items. eligible: bool[size]. count: how many unclicked items to add at most.
    """
    content = catalog.model.content
    if content is None or content.order is None or catalog.items is None:
        return ranked
    order = content.order
    codes, created = content_arrays(SideFeatures((), order.categories, order.created), catalog.items)
    assert created is not None
    unclicked = np.flatnonzero(eligible & (catalog.popularity == 0))
    if conditions.excluded is not None:
        unclicked = np.setdiff1d(unclicked, conditions.excluded)
    unclicked = unclicked[unclicked < len(created)]
    unclicked = unclicked[created[unclicked] != NO_TIME]
    if not len(unclicked):
        return ranked
    now = time.time_ns() // 1_000_000 if conditions.at is None else conditions.at
    own_codes = [
        [int(column[item]) if item < len(column) else NO_CATEGORY for item in clicks[::-1][:OWN]] for column in codes
    ]
    scores = order.scores([column[unclicked] for column in codes], created[unclicked], own_codes, now)
    best = unclicked[np.lexsort((unclicked, -scores))[:count]].tolist()
    others = [item for item in ranked.tolist() if catalog.popularity[item] > 0 or item not in unclicked]
    turns = [item for pair in zip_longest(best, others) for item in pair if item is not None]
    return np.array(turns, dtype=ranked.dtype)


def _without_last(stays: np.ndarray, count: int) -> np.ndarray:
    """Return bool[n]: all but the last `count` items that need not stay."""
    is_kept = np.ones(len(stays), dtype=bool)
    is_kept[np.flatnonzero(~stays)[-count:]] = False
    return is_kept


def _placed(
    ranked: np.ndarray, is_kept: np.ndarray, fixed: np.ndarray, chosen: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Spread the chosen items evenly over the positions that no pin has; the others keep their order."""
    count = len(ranked)
    is_new = np.zeros(count, dtype=bool)
    free = np.flatnonzero(~fixed)
    for number in range(len(chosen)):
        is_new[free[int((number + 0.5) * len(free) / len(chosen))]] = True
    listed = np.empty(count, dtype=ranked.dtype)
    listed[fixed] = ranked[fixed]
    listed[is_new] = chosen
    listed[~fixed & ~is_new] = ranked[is_kept & ~fixed]
    return listed, is_new


def _assembled(
    catalog: Catalog,
    answer: Recommendations,
    ranked: np.ndarray,
    options: Options,
    listed: np.ndarray,
    is_new: np.ndarray,
    new_reasons: list[Reason],
    draws: list[_Drawn],
) -> Recommendations:
    """Return the answer with the items of `listed`.

    Items of the former answer keep their scores, reasons and fields. is_new: bool[n], which items were placed;
    new_reasons: theirs, if the answer has reasons; draws: theirs.
    """
    position_of = {item: position for position, item in enumerate(ranked.tolist())}
    source = [-1 if placed else position_of[item] for item, placed in zip(listed.tolist(), is_new, strict=True)]
    repeats = reasons = fields = None
    if answer.repeats is not None:
        repeats = np.array([position >= 0 and answer.repeats[position] for position in source])
    if answer.reasons is not None:
        placed_reasons = iter(new_reasons)
        reasons = [
            answer.reasons[position] if position >= 0 else replace(next(placed_reasons), rule="explored")
            for position in source
        ]
    if answer.fields is not None:
        new_fields = iter((catalog.items or ItemTable(0)).values_at(options.fields, listed[is_new]))
        fields = [answer.fields[position] if position >= 0 else next(new_fields) for position in source]
    return replace(
        answer,
        items=catalog.ids.external(listed),
        scores=_scores(answer.scores, source),
        repeats=repeats,
        reasons=reasons,
        fields=fields,
        explored=is_new,
        draws=[
            Draw(position, catalog.ids.external(np.array(one.candidates, dtype=np.int32)), one.chance)
            for position, one in zip(np.flatnonzero(is_new).tolist(), draws, strict=True)
        ],
    )


def _scores(scores: np.ndarray, source: list[int]) -> np.ndarray:
    """Return float32[n]: a placed item has the score of the next one that was not placed, else of the one before."""
    known = [row for row, position in enumerate(source) if position >= 0]
    if not known:
        return np.zeros(len(source), dtype=scores.dtype)
    nearest = np.minimum(np.searchsorted(known, np.arange(len(source))), len(known) - 1)
    return scores[np.array(source)[np.array(known)[nearest]]]
