"""The rules of a call, stage by stage, so that a ranking can be made with those up to one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.rules import RuleSet, rule_set_of_text

# In the order in which they take effect, after the filter (docs/rules.md).
_ORDER = ("filter", "boost", "limit", "diversify", "pin")


def names_of(rules: RuleSet | None) -> list[str]:
    """Return the stages after the boosts that a rule set has."""
    return [] if rules is None else [name for name in _ORDER[2:] if rules.source.get(name)]


def until(rules: RuleSet | None, stage: str) -> RuleSet | None:
    """Return the rules of a set up to a stage."""
    if rules is None:
        return None
    later = _ORDER[_ORDER.index(stage) + 1 :]
    source = {key: value for key, value in rules.source.items() if key not in later}
    if source == rules.source:
        return rules
    return rule_set_of_text(json.dumps(source, ensure_ascii=False), rules.public_only, rules.where)


def entries(rules: RuleSet | None, key: str) -> list[Any]:
    """Return the entries of a key: conditions, boosts or limits."""
    if rules is None or key not in rules.source:
        return []
    found = rules.source[key]
    return found if isinstance(found, list) else [found]


def meets(catalog: Catalog, condition: str, clicks: np.ndarray, item: int) -> bool:
    """Return whether an item meets a condition after the clicks."""
    last = int(clicks[-1]) if len(clicks) else None
    rules = rule_set_of_text(json.dumps({"filter": condition}, ensure_ascii=False))
    allowed = catalog.bound_rules.bound(rules, last).filter
    return allowed is None or bool(allowed.mask[item])


def boosts_of(catalog: Catalog, rules: RuleSet | None, clicks: np.ndarray, item: int) -> list[tuple[str, float]]:
    """Return the conditions of the boosts that an item gets, and what each adds."""
    return [
        (boost["when"], float(boost["by"]))
        for boost in entries(rules, "boost")
        if meets(catalog, boost["when"], clicks, item)
    ]


def pin_of(catalog: Catalog, rules: RuleSet | None, item: int) -> int | None:
    """Return the position that rules pin an item to, from 1."""
    pins = {} if rules is None else rules.source.get("pin", {})
    for text, position in sorted(pins.items(), key=lambda pin: pin[1]):
        if pinned_item(catalog, text) == item:
            return int(position)
    return None


def pinned_item(catalog: Catalog, text: str) -> int:
    """Return the internal id of an item as a pin names it: ids that are numbers as text too; -1 if it is unknown."""
    if catalog.ids.kind == "str":
        return int(catalog.ids.lookup([text])[0])
    try:
        return int(catalog.ids.lookup([int(text)])[0])
    except (ValueError, OverflowError):
        return -1


def limit_that_holds(
    catalog: Catalog, rules: RuleSet | None, stage: str, item: int, above: np.ndarray
) -> tuple[str, list[int]]:
    """Return the limit or the diversity that an item meets, in words, and the items of `above` that share its value."""
    table = catalog.items or ItemTable(0)
    best: tuple[str, list[int]] = (stage, [])
    for entry in entries(rules, stage):
        name, of = entry["per"], f" of any {entry['of']}" if "of" in entry else ""
        values_above = _values(table, name, above.tolist())
        for value in sorted(_values(table, name, [item])[0], key=str):
            same = [other for other, values in zip(above.tolist(), values_above, strict=True) if value in values]
            text = f"at most {entry['most']}{of} with the {name} {value!r}"
            if len(same) >= int(entry["most"]):
                return text, same
            if len(same) >= len(best[1]):
                best = text, same
    return best


def _values(table: ItemTable, name: str, items: Sequence[int]) -> list[set[Any]]:
    values = [row.get(name) for row in table.values_at([name], np.array(items, dtype=np.int32))] if len(items) else []
    return [set() if value is None else set(value) if isinstance(value, (list, tuple)) else {value} for value in values]


def columns_of(condition: str) -> frozenset[str]:
    """Return the columns that a condition names."""
    return rule_set_of_text(json.dumps({"filter": condition}, ensure_ascii=False)).columns
