"""A set of rules as the user writes it, checked."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mtaw_fast.errors import UsageError, nearest, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import CategoriesColumn, CategoryColumn
from mtaw_fast.kernels.native import rules as native
from mtaw_fast.kernels.native.rules import Condition
from mtaw_fast.rules.bitmaps import native_columns
from mtaw_fast.system.fork_lock import ForkLock

MAX_BYTES = 4096  # of all rules together; longer ones are not even read as JSON
_MAX_LATEST = 64
_MAX_COMPARED = 2000  # labels of a column among which a similar one is looked for, in 10 ms
_LATEST: dict[tuple[int, bool], tuple[dict[str, Any], Any]] = {}  # rules of the latest calls, by their id
_LATEST_LOCK = ForkLock()


class MisfitRulesError(UsageError):
    """Rules of a placement do not fit the item table; the message may name its private columns."""


@dataclass(frozen=True, eq=False)
class RuleSet:
    """Rules on a ranking. Make one with `RuleSet.of`.

    source: the rules as they were written. where: the placement that has them, for messages. native: the rules that the
    C++ core read. filter: what an item must meet. boosts: conditions and what is added to the scores of the items that
    meet them. current: the columns whose values of the last click's item the conditions use. public_only: whether
    private columns are refused.
    """

    source: dict[str, Any]
    where: str | None
    native: native.RuleSet
    filter: Condition | None
    boosts: list[tuple[Condition, float]]
    current: list[str]
    public_only: bool = False

    @classmethod
    def of(cls, rules: Mapping[str, Any], where: str | None = None, public_only: bool = False) -> RuleSet:
        """Return the checked rules. where, public_only: see the class.

        Raises UsageError, one line with the position, on rules that no catalog could have.
        """
        shown_as = where or "rules"
        if not isinstance(rules, Mapping):
            is_json = isinstance(rules, str) and rules.lstrip().startswith("{")
            parsed = "; parse a text with json.loads" if is_json else ""
            raise UsageError(
                f'{shown_as}: rules are an object such as {{"filter": "price < 80"}}, not {shown(rules, 60)}{parsed}'
            )
        source = _as_json(rules, shown_as)
        with _refused(f"{shown_as}: "):
            inner = native.RuleSet(json.dumps(source, ensure_ascii=False), shown_as)
        return cls(source, where, inner, inner.filter, inner.boosts, inner.current, public_only)

    @property
    def columns(self) -> frozenset[str]:
        """The columns that the rules name."""
        return frozenset(self.native.columns)

    def check(self, table: ItemTable | None) -> None:
        """Raise UsageError, one line with column and position, unless the rules fit the columns of a table.

        Of a placement's it is a MisfitRulesError.
        """
        with _refused(kind=UsageError if self.where is None else MisfitRulesError):
            self.native.check(None if table is None else native_columns(table), self.public_only)

    def notes(self, table: ItemTable) -> list[str]:
        """Return what is odd in rules that fit a table, a line each: labels that it does not have."""
        lines = []
        for name, text in dict.fromkeys(self.native.texts):
            column = table[name]
            if isinstance(column, (CategoryColumn, CategoriesColumn)) and text not in column.labels:
                meant = nearest(text, column.labels[:_MAX_COMPARED])
                lines.append(f"{self.where or 'rules'}: no item has {shown(text, 60)} in {name!r}{meant}")
        return lines


def rule_set_of(rules: Mapping[str, Any], public_only: bool = False) -> RuleSet:
    """Return what `RuleSet.of` does; equal rules of later calls are not parsed again."""
    key = id(rules), public_only
    latest = _LATEST.get(key)
    # The same object with the same content: to compare it costs less than to write it as JSON.
    if latest is not None and _equal(latest[0], rules):
        return latest[1]
    rule_set = _rule_set_of(rules, public_only)
    copied = copy.deepcopy(dict(rules))
    with _LATEST_LOCK:
        while len(_LATEST) >= _MAX_LATEST:
            del _LATEST[next(iter(_LATEST))]
        _LATEST[key] = copied, rule_set
    return rule_set


def _equal(former: Any, rules: Any) -> bool:
    try:
        return bool(former == rules)
    except (ValueError, RecursionError):  # arrays, which no rules have; the parser says so
        return False


def _rule_set_of(rules: Mapping[str, Any], public_only: bool) -> RuleSet:
    try:
        text = json.dumps(rules, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return RuleSet.of(rules, None, public_only)  # says what is wrong
    return rule_set_of_text(text, public_only)


def rule_set_of_text(text: str, public_only: bool = False, where: str | None = None) -> RuleSet:
    """Return what `RuleSet.of` does for rules as JSON; neither equal rules nor equal errors are found out again."""
    if len(text) > MAX_BYTES:
        raise _too_long(where or "rules", len(text.encode("utf-8", "replace")))
    result = _parsed(text, public_only, where)
    if isinstance(result, str):
        raise UsageError(result)
    return result


@lru_cache(maxsize=256)
def _parsed(text: str, public_only: bool, where: str | None) -> RuleSet | str:
    """Return the rules, or the error that they are."""
    try:
        return RuleSet.of(json.loads(text), where, public_only)
    except UsageError as error:
        return str(error)


def _as_json(rules: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return a plain copy. Raises UsageError on rules that are not JSON, or too long."""
    try:
        text = json.dumps(dict(rules), ensure_ascii=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{where}: not JSON ({str(error).splitlines()[0]}); write texts, numbers, lists and objects"
        ) from None
    if size > MAX_BYTES:
        raise _too_long(where, size)
    copied: dict[str, Any] = json.loads(text)
    return copied


def _too_long(where: str, size: int) -> UsageError:
    return UsageError(f"{where}: the rules have {size} bytes, the most is {MAX_BYTES}; write fewer or shorter ones")


@contextmanager
def _refused(begin: str = "", kind: type[UsageError] = UsageError) -> Iterator[None]:
    """Raise what the native rules refuse as UsageError of a kind, in a line that begins so."""
    try:
        yield
    except ValueError as error:
        raise kind(begin + str(error).removeprefix(begin)) from None
