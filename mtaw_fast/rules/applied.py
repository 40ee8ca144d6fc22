"""Rules bound to one state of a catalog and to the item of a session's last click."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native import rules as native
from mtaw_fast.kernels.native.ids import IdTable
from mtaw_fast.rules.bitmaps import BitmapCache, native_columns, values_of
from mtaw_fast.rules.rule_set import RuleSet
from mtaw_fast.system.fork_lock import ForkLock

_MAX_BOUND = 256  # their filters are in the cache of bitmaps, which is bounded by bytes


@dataclass(frozen=True, slots=True, eq=False)
class AppliedRules:
    """Rules over a catalog after a click.

    filter: the items that may be shown; None: all. native: the rules as `kernels.native.rank` takes them. buried:
    bool[n_items], the items whose boosts add up to less than 0; None if no boost is below 0.
    """

    filter: Filter | None
    native: native.AppliedRules
    buried: np.ndarray | None


class BoundRules:
    """Rule sets bound to one state of a catalog, the oldest dropped first. Thread-safe.

    A set is checked against the columns when it is first used. ids: of n_items. present: uint8[ceil(n_items / 8)], bits
    of the items that are recommended; None: all are.
    """

    def __init__(
        self, table: ItemTable | None, ids: IdTable, n_items: int, present: np.ndarray | None, cache: BitmapCache
    ) -> None:
        self._table, self._parts = table, (table or ItemTable(0), ids, n_items, present, cache)
        self._bound: dict[tuple[RuleSet, Any], AppliedRules] = {}
        self._checked: set[RuleSet] = set()
        self._lock = ForkLock()

    def bound(self, rules: RuleSet, item: int | None) -> AppliedRules:
        """Return the rules after a click on `item`, an internal id, or None. Raises UsageError if they do not fit."""
        key = rules, self._values(rules, item) if rules.current else None
        applied = self._bound.get(key)
        if applied is not None:
            return applied
        rules.check(self._table)
        applied = self._applied(rules, item)
        with self._lock:
            if len(self._checked) >= _MAX_BOUND:
                self._checked.clear()
            self._checked.add(rules)
            while len(self._bound) >= _MAX_BOUND:
                del self._bound[next(iter(self._bound))]
            self._bound[key] = applied
        return applied

    def _applied(self, rules: RuleSet, item: int | None) -> AppliedRules:
        table, ids, n_items, present, cache = self._parts
        allowed = None if rules.filter is None else cache.filter(rules.filter, table, n_items, item)
        boosts = [(cache.filter(condition, table, n_items, item), by) for condition, by in rules.boosts]
        bits, packed = None if allowed is None else allowed.packed, [boosted.packed for boosted, _ in boosts]
        buried = None
        if any(by < 0 for _, by in boosts):
            buried = sum((by * boosted.mask for boosted, by in boosts), np.zeros(n_items)) < 0
        return AppliedRules(
            allowed, native.AppliedRules(rules.native, native_columns(table), ids, present, bits, packed), buried
        )

    def _values(self, rules: RuleSet, item: int | None) -> tuple[Any, ...]:
        """Return what the rules read of the last click's item. Raises UsageError if they do not fit."""
        if rules not in self._checked:
            rules.check(self._table)
        return values_of(self._parts[0], rules.current, item)
