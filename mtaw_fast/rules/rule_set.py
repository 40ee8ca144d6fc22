"""A set of rules as the user writes it: checked, and its conditions parsed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.rules.expression import MOST_BYTES, MOST_CLAUSES, Tree, clauses, current_names, names, parsed
from mtaw_fast.rules.program import check, check_column
from mtaw_fast.system.fork_lock import ForkLock

LIMITED = ("category", "categories", "boolean")  # kinds of columns that a limit counts
_MOST_PLACE = 10_000
_MOST_BOOST = 1e6
_MOST_LATEST = 64
_LATEST: dict[tuple[int, bool, str | None], tuple[dict[str, Any], Any]] = {}  # rules of the latest calls, by their id
_LATEST_LOCK = ForkLock()
_KEYS = ("filter", "boost", "limit", "pin")


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A condition of `rules.expression` that an item must meet. where: its name in errors, as in the other rules."""

    when: Tree
    where: str


@dataclass(frozen=True, slots=True)
class BoostRule:
    """Adds `by` to the scores of the items that meet a condition."""

    when: Tree
    by: float
    where: str


@dataclass(frozen=True, slots=True)
class LimitRule:
    """At most `most` items of an answer have the same value in the column `per`."""

    per: str
    most: int
    where: str


@dataclass(frozen=True, eq=False)
class RuleSet:
    """Rules on a ranking. Make one with `RuleSet.of`.

    Attributes
    ----------
    source : dict
        The rules as they were written: what is stored.
    name : str or None
        Of a kept set.
    filters : tuple of FilterRule
    boosts : tuple of BoostRule
    limits : tuple of LimitRule
    pins : tuple of (int, id)
        Places from 1, ascending, and their external ids.
    current : tuple of str
        The columns whose values of the last click's item the conditions use.
    public_only : bool
        Whether private columns are refused.
    """

    source: dict[str, Any]
    name: str | None
    filters: tuple[FilterRule, ...]
    boosts: tuple[BoostRule, ...]
    limits: tuple[LimitRule, ...]
    pins: tuple[tuple[int, Any], ...]
    current: tuple[str, ...]
    public_only: bool = False

    @classmethod
    def of(cls, rules: Mapping[str, Any], name: str | None = None, public_only: bool = False) -> RuleSet:
        """Return the checked rules. name: under which they are kept. public_only: see the class.

        Raises UsageError, one line with the place, on rules that no catalog could have.
        """
        at = "rules" if name is None else f"rules {name!r}"
        if not isinstance(rules, Mapping):
            raise UsageError(f'{at}: rules are an object such as {{"filter": "price < 80"}}, not {shown(rules, 60)}')
        for key in rules:
            if key not in _KEYS:
                raise UsageError(f"{at}: there is no {shown(key, 60)}; the keys are {', '.join(_KEYS)}")
        rules = source = _as_json(rules, at)
        texts = _listed(rules.get("filter"))
        places = [f"{at}: filter{_number(texts, place)}" for place in range(1, len(texts) + 1)]
        filters = [FilterRule(parsed(text, where), where) for text, where in zip(texts, places, strict=True)]
        boosts = [_boost(one, f"{at}: boost{_number(_listed(rules.get('boost')), place)}")
                  for place, one in enumerate(_listed(rules.get("boost")), 1)]  # fmt: skip
        limits = [_limit(one, f"{at}: limit{_number(_listed(rules.get('limit')), place)}")
                  for place, one in enumerate(_listed(rules.get("limit")), 1)]  # fmt: skip
        pins = _pins(rules.get("pin"), f"{at}: pin")
        trees = [one.when for one in filters] + [one.when for one in boosts]
        count = sum(map(clauses, trees)) + len(limits) + len(pins)
        if count > MOST_CLAUSES:
            raise UsageError(f"{at}: there are {count} clauses, the most is {MOST_CLAUSES}; write fewer comparisons")
        current = tuple(sorted({name for tree in trees for name in current_names(tree)}))
        return cls(source, name, tuple(filters), tuple(boosts), tuple(limits), pins, current, public_only)

    @property
    def conditions(self) -> list[FilterRule | BoostRule]:
        """The rules that have a condition."""
        return [*self.filters, *self.boosts]

    @property
    def filter(self) -> Tree | None:
        """All conditions that an item must meet, as one tree."""
        trees = [one.when for one in self.filters]
        return {"all": trees} if len(trees) > 1 else trees[0] if trees else None

    @property
    def where(self) -> str:
        """How errors name the set."""
        return "rules" if self.name is None else f"rules {self.name!r}"

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the rules name."""
        trees = [one.when for one in self.conditions]
        return frozenset([name for tree in trees for name, _ in names(tree)] + [one.per for one in self.limits])

    def check(self, table: ItemTable | None) -> None:
        """Raise UsageError, one line with column and place, unless the rules fit the columns of a table."""
        if table is None:
            if self.columns:
                raise UsageError(
                    f"{self.where}: the items have no columns, so there is no {min(self.columns)!r}; "
                    "add an item table: mtaw-fast items BUNDLE items.parquet"
                )
            return
        for rule in self.conditions:
            check(rule.when, table, rule.where, self.public_only)
        for limit in self.limits:
            column = check_column(limit.per, table, limit.where, self.public_only)
            if column.kind not in LIMITED:
                raise UsageError(
                    f"{limit.where}: column {limit.per!r} is of kind {column.kind}; a limit counts {', '.join(LIMITED)}"
                )


def rule_set_of(rules: Mapping[str, Any], public_only: bool = False, name: str | None = None) -> RuleSet:
    """Return what `RuleSet.of` does; equal rules of later calls are not parsed again."""
    key = (id(rules), public_only, name)
    latest = _LATEST.get(key)
    # The same object with the same content: to compare it costs less than to write it as JSON.
    if latest is not None and _equal(latest[0], rules):
        return latest[1]
    found = _rule_set_of(rules, public_only, name)
    copied = copy.deepcopy(dict(rules))
    with _LATEST_LOCK:
        while len(_LATEST) >= _MOST_LATEST:
            del _LATEST[next(iter(_LATEST))]
        _LATEST[key] = copied, found
    return found


def _equal(kept: Any, given: Any) -> bool:
    try:
        return bool(kept == given)
    except (ValueError, RecursionError):  # arrays, which no rules have; the parser says so
        return False


def _rule_set_of(rules: Mapping[str, Any], public_only: bool, name: str | None) -> RuleSet:
    try:
        text = json.dumps(rules, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return RuleSet.of(rules, name, public_only)  # says what is wrong
    return _parsed(text, public_only, name) if len(text) <= MOST_BYTES else RuleSet.of(rules, name, public_only)


@lru_cache(maxsize=256)
def _parsed(text: str, public_only: bool, name: str | None) -> RuleSet:
    return RuleSet.of(json.loads(text), name, public_only)


def _as_json(rules: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Return a plain copy. Raises UsageError on rules that are not JSON, or too long."""
    try:
        text = json.dumps(dict(rules), ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{at}: not JSON ({str(error).splitlines()[0]}); write texts, numbers, lists and objects"
        ) from None
    if size > MOST_BYTES:
        raise UsageError(f"{at}: the rules have {size} bytes, the most is {MOST_BYTES}; write fewer or shorter ones")
    copied: dict[str, Any] = json.loads(text)
    return copied


def _boost(one: Any, where: str) -> BoostRule:
    if not isinstance(one, Mapping) or set(one) != {"when", "by"}:
        raise UsageError(f'{where}: a boost is {{"when": CONDITION, "by": NUMBER}}, not {shown(one, 60)}')
    by = one["by"]
    if isinstance(by, bool) or not isinstance(by, (int, float)) or not math.isfinite(by) or abs(by) > _MOST_BOOST:
        raise UsageError(f"{where}: by must be a number from {-_MOST_BOOST:g} to {_MOST_BOOST:g}, not {shown(by, 60)}")
    return BoostRule(parsed(one["when"], f"{where}: when"), float(by), f"{where}: when")


def _limit(one: Any, where: str) -> LimitRule:
    if not isinstance(one, Mapping) or set(one) != {"per", "most"}:
        raise UsageError(f'{where}: a limit is {{"per": COLUMN, "most": NUMBER}}, not {shown(one, 60)}')
    per, most = one["per"], one["most"]
    if not isinstance(per, str):
        raise UsageError(f"{where}: per must be the name of a column, not {shown(per, 60)}")
    if isinstance(most, bool) or not isinstance(most, int) or not 1 <= most <= _MOST_PLACE:
        raise UsageError(f"{where}: most must be a whole number from 1 to {_MOST_PLACE}, not {shown(most, 60)}")
    return LimitRule(per, most, where)


def _pins(pins: Any, where: str) -> tuple[tuple[int, Any], ...]:
    if pins is None:
        return ()
    if not isinstance(pins, Mapping):
        raise UsageError(
            f'{where}: pins are an object of items and places, such as {{"sku-1": 3}}, not {shown(pins, 60)}'
        )
    taken: dict[int, Any] = {}
    for item, place in pins.items():
        if isinstance(item, bool) or not isinstance(item, (str, int)):
            raise UsageError(f"{where}: an item's id is a text or a whole number, not {shown(item, 60)}")
        if isinstance(place, bool) or not isinstance(place, int) or not 1 <= place <= _MOST_PLACE:
            raise UsageError(f"{where}: the place of {shown(item, 60)} must be a whole number from 1 to {_MOST_PLACE}, "
                             f"not {shown(place, 60)}")  # fmt: skip
        if place in taken:
            raise UsageError(f"{where}: {shown(taken[place], 60)} and {shown(item, 60)} have the same place {place}")
        taken[place] = item
    return tuple(sorted(taken.items()))


def _listed(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _number(listed: list[Any], place: int) -> str:
    return f" {place}" if len(listed) > 1 else ""
