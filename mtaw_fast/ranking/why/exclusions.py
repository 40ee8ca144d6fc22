"""The conditions that keep an item out of a ranking before anything is ranked."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import shown
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.options import Options, conditions_of
from mtaw_fast.ranking.why import rule_stages
from mtaw_fast.ranking.why.explanation import Gate, quoted
from mtaw_fast.rules import RuleSet

_SHOWN = 5  # pinned items that a note names


class Asked(NamedTuple):
    """The conditions of a call as they were asked, each by its name."""

    exclude: Iterable[Any] = ()
    allow: Iterable[Any] | None = None
    filter: Filter | None = None


def exclusion_of(
    catalog: Catalog, item: Any, internal_id: int, clicks: np.ndarray, options: Options, asked: Asked
) -> Gate | None:
    """Return the first condition that keeps an item out; None if none does. internal_id: -1 for an unknown item."""
    withheld = withheld_by_catalog(catalog, item, internal_id)
    if withheld is not None:
        return withheld
    if internal_id in catalog.ids.known(list(asked.exclude)):
        return Gate("excluded", "the call excludes it (exclude)")
    if asked.allow is not None and internal_id not in catalog.ids.known(list(asked.allow)):
        return Gate("not allowed", "the call allows other items only (allow)")
    if asked.filter is not None:
        allowed = conditions_of(catalog, prepared=asked.filter).allowed
        if allowed is not None and not allowed.mask[internal_id]:
            return Gate("filter", "the call's prepared filter leaves it out")
    if options.conditions.exclude_seen and internal_id in clicks:
        back = int(np.flatnonzero(clicks[::-1] == internal_id)[0])
        where = f"{back} clicks before the last one" if back else "as the last click"
        return Gate("seen", f"it is in the session, {where} (exclude_seen)")
    for condition in rule_stages.entries(options.rules, "filter"):
        for clause in _clauses(condition):
            if not rule_stages.meets(catalog, clause, clicks, internal_id):
                text = f"it does not meet the rule {quoted(clause)}{_has(catalog, clause, internal_id)}"
                return Gate("rule filter", text, rule=clause)
    return None


def withheld_by_catalog(catalog: Catalog, item: Any, internal_id: int) -> Gate | None:
    """Return why the catalog recommends an item to nobody; None if it does. internal_id: -1 for an unknown item."""
    table = catalog.items
    if internal_id < 0:
        if table is not None and item in table.waiting.row_of:
            return Gate("waiting", f"{item!r} has a row in the item table, which waits for a first click")
        return Gate("unknown", f"the catalog does not know {item!r}")
    if catalog.removed[internal_id]:
        return Gate("removed", "it was removed from the catalog")
    if catalog.unavailable[internal_id]:
        if table is not None and internal_id in catalog.ids.lookup(list(table.hidden)).tolist():
            return Gate("hidden", "it is hidden")
        return Gate("not available", f"it is not available by the column {_availability(table)!r}")
    return None


def pin_notes(catalog: Catalog, rules: RuleSet) -> list[str]:
    """Return a line that names the pinned items that the catalog recommends to nobody; none if there are none."""
    reasons = []
    for text in rules.source.get("pin", {}):
        gate = withheld_by_catalog(catalog, text, rule_stages.pinned_item(catalog, text))
        if gate is not None:
            reasons.append(f"{shown(text, 60)} ({gate.kind})")
    more = f" and {len(reasons) - _SHOWN} more" if len(reasons) > _SHOWN else ""
    named = ", ".join(reasons[:_SHOWN]) + more
    return [f"{rules.where or 'rules'}: pinned, but shown only once they can be: {named}"] if reasons else []


def _availability(table: ItemTable | None) -> str:
    return "" if table is None or table.availability is None else table.availability


def _clauses(condition: str) -> list[str]:
    """Return the parts of a condition that must all hold; their syntax is a part of Python's."""
    try:
        tree = ast.parse(condition.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return [condition]
    if not isinstance(tree, ast.BoolOp) or not isinstance(tree.op, ast.And):
        return [condition]
    parts = [ast.get_source_segment(condition.strip(), value) for value in tree.values]
    return [condition] if None in parts else [part for whole in parts if whole for part in _clauses(whole)]


def _has(catalog: Catalog, clause: str, item: int) -> str:
    """Return what an item has in the columns of a condition, in words."""
    table = catalog.items or ItemTable(0)
    names = sorted(rule_stages.columns_of(clause))
    values = table.values_at(names, np.array([item], dtype=np.int32))[0]
    texts = [f"{name} is {values[name]!r}" if name in values else f"{name} is missing" for name in names]
    return f" ({', '.join(texts)})" if texts else ""
