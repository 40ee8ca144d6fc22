"""Rules bound to one state of a catalog and to the item of a session's last click."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native.rules import Arrangement
from mtaw_fast.rules.bitmaps import BitmapCache, native_columns, values_of
from mtaw_fast.rules.rule_set import RuleSet
from mtaw_fast.system.fork_lock import ForkLock

_MAX_BOUND = 256  # their filters are in the cache of bitmaps, which is bounded by bytes


class Ids(Protocol):
    """A table of external ids, as `data.item_ids.ItemIds`."""

    @property
    def kind(self) -> str: ...
    def lookup(self, ids: list[Any]) -> np.ndarray: ...


@dataclass(frozen=True, slots=True, eq=False)
class Arranged:
    """The first items after the rules. ids int32[m], scores float32[m].

    boosts: float64[m], what was added to each score. pinned: bool[m].
    """

    ids: np.ndarray
    scores: np.ndarray
    boosts: np.ndarray
    pinned: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class AppliedRules:
    """Rules over a catalog of N items.

    filter: the items that may be shown; None: all. pins: positions from 1, ascending, and internal ids, of items that
    neither the catalog nor the filter excludes. reorders: whether there are boosts or limits, so that the first k may
    need more than k items of the ranking. arrangement: boosts and limits for `kernels.native.rules`. raised:
    uint8[ceil(N / 8)], bits of the items whose boosts add up to more than 0; None without any.
    """

    filter: Filter | None
    pins: list[tuple[int, int]]
    reorders: bool
    arrangement: Arrangement
    raised: np.ndarray | None

    @classmethod
    def of(
        cls,
        rules: RuleSet,
        table: ItemTable | None,
        ids: Ids,
        unavailable: np.ndarray,
        item: int | None,
        cache: BitmapCache,
    ) -> AppliedRules:
        """Bind checked rules to a table of columns, the ids of N items, and the last click's item or None.

        unavailable: bool[N], items that are not recommended.
        """
        n_items = len(unavailable)
        allowed, boosts, columns = None, [], None
        if table is not None:
            columns = native_columns(table)
            if rules.filter is not None:
                allowed = cache.filter(rules.filter, table, n_items, item)
            for condition, by in rules.boosts:
                matched = cache.filter(condition, table, n_items, item)
                count = int(np.count_nonzero(matched.mask if allowed is None else matched.mask & allowed.mask))
                if count:
                    boosts.append((matched.packed, by, count))
        pins = [
            (position, item)
            for position, item in _internal_pins(rules, ids)
            if not unavailable[item] and (allowed is None or allowed.mask[item])
        ]
        arrangement = Arrangement(n_items, boosts, rules.native, columns)
        return cls(allowed, pins, bool(boosts or rules.limits), arrangement, arrangement.raised)

    def depth(self, k: int, n_items: int) -> int:
        """Return how much of the ranking to read at first for k items."""
        depth = 2 * k + 8 if self.reorders else k
        return min(n_items, depth + len(self.pins))

    def arranged(
        self, ids: np.ndarray, scores: np.ndarray, k: int, whole: bool, pins: list[tuple[int, int]]
    ) -> Arranged | None:
        """Return the first k items after boosts, limits and `pins`; None if it takes more of the ranking to know them.

        ids int32[D], scores float32[D]: its first ones after all that removes items; all of it if `whole`. pins:
        those of `self.pins` that may be shown.
        """
        arranged = self.arrangement.arrange(ids, scores, k, whole, pins)
        return None if arranged is None else Arranged(*arranged)


class BoundRules:
    """Rule sets bound to one state of a catalog, the oldest dropped first. Thread-safe.

    A set is checked against the columns when it is first used. unavailable: bool[N], items that are not recommended.
    """

    def __init__(self, table: ItemTable | None, ids: Ids, unavailable: np.ndarray, cache: BitmapCache) -> None:
        self._parts = table, ids, unavailable, cache
        self._bound: dict[tuple[RuleSet, Any], AppliedRules] = {}
        self._checked: set[RuleSet] = set()
        self._lock = ForkLock()

    def bound(self, rules: RuleSet, item: int | None) -> AppliedRules:
        """Return the rules after a click on `item`, an internal id, or None. Raises UsageError if they do not fit."""
        key = rules, self._values(rules, item) if rules.current else None
        applied = self._bound.get(key)
        if applied is not None:
            return applied
        table, ids, unavailable, cache = self._parts
        rules.check(table)
        applied = AppliedRules.of(rules, table, ids, unavailable, item, cache)
        with self._lock:
            if len(self._checked) >= _MAX_BOUND:
                self._checked.clear()
            self._checked.add(rules)
            while len(self._bound) >= _MAX_BOUND:
                del self._bound[next(iter(self._bound))]
            self._bound[key] = applied
        return applied

    def _values(self, rules: RuleSet, item: int | None) -> tuple[Any, ...]:
        """Return what the rules read of the last click's item. Raises UsageError if they do not fit."""
        table = self._parts[0]
        if rules not in self._checked:
            rules.check(table)
        assert table is not None
        return values_of(table, rules.current, item)


def _internal_pins(rules: RuleSet, ids: Ids) -> list[tuple[int, int]]:
    """Return the pins with internal ids; unknown ones are left out."""
    external_ids = [item if ids.kind == "str" else _whole(item) for _, item in rules.pins]
    internal_ids = ids.lookup(external_ids).tolist() if external_ids else []
    pins: dict[int, int] = {}  # "5" and "05" are one item: its first position counts
    for (position, _), item in zip(rules.pins, internal_ids, strict=True):
        if item >= 0:
            pins.setdefault(item, position)
    return [(position, item) for item, position in pins.items()]


def _whole(item: str) -> Any:
    """Return an id of a JSON object's key as a number if it is one."""
    return int(item) if re.fullmatch(r"-?[0-9]{1,19}", item) else item
