"""From a condition's tree to the program that `kernels.native.rules` runs over the columns of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.items import Column, ItemTable
from mtaw_fast.items.columns import (
    BooleanColumn,
    CategoriesColumn,
    CategoryColumn,
    NumberColumn,
    TextColumn,
    TimeColumn,
    VectorColumn,
)
from mtaw_fast.rules.expression import Tree, names

Program = list[tuple[Any, ...]]

MOST_VALUES = 16  # after `in`, for numbers, times and texts: each is a pass over the column

_ORDERED = ("number", "time")
_LABELLED = ("category", "categories", "text")
_OPPOSITE = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def check(tree: Tree, table: ItemTable, where: str, public_only: bool = False) -> None:
    """Raise UsageError, one line with column and place, unless `tree` fits the columns of `table`.

    public_only: whether private columns are refused.
    """
    for name, at in names(tree):
        check_column(name, table, where, public_only, at)
    _check_kinds(tree, table, where)


def check_column(name: str, table: ItemTable, where: str, public_only: bool, at: int | None = None) -> Column:
    """Return a column. Raises UsageError if there is none of this name, or it is private and `public_only`."""
    place = "" if at is None else f" (character {at})"
    column = table.columns.get(name)
    # A private column is unknown to those who may not read it.
    if column is None or (public_only and not column.public):
        known = [one for one in table.columns if not public_only or table.columns[one].public]
        kind = "public column" if public_only else "column"
        listed = ", ".join(known[:10]) + (", .." if len(known) > 10 else "") or "none"
        raise UsageError(f"{where}: the items have no {kind} {name!r}{place}; there is: {listed}")
    return column


def resolved(tree: Tree, table: ItemTable, item: int | None) -> Tree:
    """Return a checked tree with the values of the last click's item, an internal id, in place of `current`.

    item: None if there is no such item; its values are missing then.
    """
    if "all" in tree or "any" in tree:
        key = "all" if "all" in tree else "any"
        return {key: [resolved(part, table, item) for part in tree[key]]}
    if "not" in tree:
        return {"not": resolved(tree["not"], table, item)}
    if "missing" in tree:
        return {"constant": value_of(table, tree["missing"], item) is None} if tree.get("of") == "current" else tree
    if "compare" in tree:
        return _resolved_comparison(tree, table, item)
    return _resolved_list(tree, table, item) if "in" in tree else tree


def value_of(table: ItemTable, name: str, item: int | None) -> Any:
    """Return an item's value in a column as a plain Python value, None if it is missing."""
    return None if item is None else table.columns[name].values_at(np.array([item]))[0]


def program_of(tree: Tree, table: ItemTable) -> Program:
    """Return the program of a checked and resolved tree."""
    if "all" in tree or "any" in tree:
        key = "all" if "all" in tree else "any"
        return [*(one for part in tree[key] for one in program_of(part, table)), (key, len(tree[key]))]
    if "not" in tree:
        return [*program_of(tree["not"], table), ("not",)]
    if "constant" in tree:
        return [("constant", tree["constant"])]
    if "missing" in tree:
        return [_missing(table.columns[tree["missing"]])]
    if "true" in tree:
        column = table.columns[tree["true"]]
        assert isinstance(column, BooleanColumn)
        return [("flag", column.values, None, True, True)]
    return _comparison(tree, table) if "compare" in tree else _list(tree, table)


def milliseconds(value: Any) -> int | None:
    """Return the Unix milliseconds of an ISO date (UTC without a zone) or a whole number; None if it is neither."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        return None
    return int(value)


def _check_kinds(tree: Tree, table: ItemTable, where: str) -> None:
    for part in tree.get("all") or tree.get("any") or ([tree["not"]] if "not" in tree else ()):
        _check_kinds(part, table, where)
    if "true" in tree:
        kind = table.columns[tree["true"]].kind
        if kind != "boolean":
            raise _error(where, tree, f"column {tree['true']!r} is {_article(kind)}; compare it with a value")
    elif "compare" in tree:
        left, right = tree["left"], tree["right"]
        if "value" in left:
            left, right = right, left
        _check_pair(left, right, table, where, ordered=tree["compare"] not in ("==", "!="))
        if "column" in left and "column" in right:
            _check_columns(left, right, table, where)
    elif "in" in tree:
        left = tree["in"]
        for one in tree["values"]:
            _check_pair(*((one, left) if "value" in left else (left, one)), table, where, ordered=False)
            if "column" in left and "column" in one:
                raise _error(where, one, "'in' takes a list of values; compare two columns with ==")
        column = left.get("column") or left.get("current")
        if (
            column is not None
            and len(tree["values"]) > MOST_VALUES
            and table.columns[column].kind in (*_ORDERED, "text")
        ):
            raise _error(where, left, f"a list of {table.columns[column].kind}s has at most {MOST_VALUES} values")


def _check_pair(side: Tree, other: Tree, table: ItemTable, where: str, ordered: bool) -> None:
    """side: of a column, perhaps the last click's."""
    name = side.get("column") or side["current"]
    kind = table.columns[name].kind
    if kind == "vector":
        raise _error(where, side, f"column {name!r} is a vector, which has no comparison")
    if ordered and kind not in _ORDERED:
        raise _error(where, side, f"column {name!r} is {_article(kind)}, which has no order; use == or in")
    if "value" not in other:
        second = other.get("column") or other["current"]
        kinds = {kind, table.columns[second].kind}
        if len(kinds) > 1 and not kinds <= set(_LABELLED):
            raise _error(where, other, f"column {second!r} is {_article(table.columns[second].kind)}, "
                         f"column {name!r} {_article(kind)}; they do not compare")  # fmt: skip
        return
    value = other["value"]
    fine = {
        "number": isinstance(value, (int, float)) and not isinstance(value, bool),
        "time": milliseconds(value) is not None,
        "boolean": isinstance(value, bool),
    }.get(kind, isinstance(value, str))
    if not fine:
        wanted = {"time": "an ISO date or Unix milliseconds", "boolean": "True or False", "number": "a number"}
        kind, wanted_kind = _article(kind), wanted.get(kind, "a text")
        raise _error(where, other, f"column {name!r} is {kind}: compare it with {wanted_kind}, not {shown(value, 60)}")


def _check_columns(left: Tree, right: Tree, table: ItemTable, where: str) -> None:
    kinds = {table.columns[side["column"]].kind for side in (left, right)}
    if kinds & {"text", "categories"}:
        raise _error(where, right, "two columns of texts or lists do not compare; compare each with values")


def _error(where: str, tree: Tree, what: str) -> UsageError:
    return UsageError(f"{where}: {what} (character {tree['at']})")


def _article(kind: str) -> str:
    return {"categories": "a list of categories"}.get(kind, f"a {kind}")


def _resolved_side(side: Tree, table: ItemTable, item: int | None) -> Any:
    """Return a side with the value of the last click; its values may be a list."""
    return side if "current" not in side else {"value": value_of(table, side["current"], item), "at": side["at"]}


def _resolved_comparison(tree: Tree, table: ItemTable, item: int | None) -> Tree:
    op, left, right = tree["compare"], tree["left"], tree["right"]
    if "current" not in left and "current" not in right:
        return tree
    kind = next(
        (table.columns[s.get("column") or s["current"]].kind for s in (left, right) if "value" not in s), "text"
    )
    left, right = _resolved_side(left, table, item), _resolved_side(right, table, item)
    for side in (left, right):
        if "value" in side and side["value"] is None:
            return {"constant": False}
    if "value" in left and "value" in right:
        return {"constant": _holds(op, left["value"], right["value"], kind)}
    if "value" in left:
        left, right, op = right, left, _OPPOSITE[op]
    if isinstance(right["value"], list):
        return _in(left, [{"value": one} for one in right["value"]], op == "!=", tree["at"])
    return {"compare": op, "left": left, "right": right, "at": tree["at"]}


def _resolved_list(tree: Tree, table: ItemTable, item: int | None) -> Tree:
    left = _resolved_side(tree["in"], table, item)
    values: list[Tree] = []
    for one in (_resolved_side(side, table, item) for side in tree["values"]):
        if "value" in one and isinstance(one["value"], list):
            values += [{"value": value} for value in one["value"]]
        elif "value" not in one or one["value"] is not None:
            values.append(one)
    if ("value" in left and left["value"] is None) or (tree["values"] and not values):
        return {"constant": False}
    negated = tree.get("negated", False)
    if "value" not in left or any("value" not in one for one in values):
        return _in(left, values, negated, tree["at"])
    named = tree["in"] if "value" not in tree["in"] else tree["values"][0]
    kind = table.columns[named["current"]].kind
    return {"constant": any(_holds("==", left["value"], one["value"], kind) for one in values) != negated}


def _in(left: Tree, values: list[Tree], negated: bool, at: int) -> Tree:
    return {"in": left, "values": values, "negated": negated, "at": at}


def _holds(op: str, left: Any, right: Any, kind: str) -> bool:
    """Return whether a comparison of two plain values holds; a list is equal to what it shares a value with."""
    if kind == "time":
        left, right = milliseconds(left), milliseconds(right)
    if isinstance(left, list) or isinstance(right, list):
        shared = bool(set(_listed(left)) & set(_listed(right)))
        return shared == (op == "==")
    return {
        "<": lambda: left < right,
        "<=": lambda: left <= right,
        ">": lambda: left > right,
        ">=": lambda: left >= right,
        "==": lambda: left == right,
        "!=": lambda: left != right,
    }[op]()


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _missing(column: Column) -> tuple[Any, ...]:
    if isinstance(column, (CategoriesColumn, TextColumn)):
        return ("missing", column.kind, column.offsets)
    if isinstance(column, CategoryColumn):
        return ("missing", column.kind, column.codes)
    assert isinstance(column, (NumberColumn, TimeColumn, BooleanColumn, VectorColumn))
    return ("missing", column.kind, column.values)


def _comparison(tree: Tree, table: ItemTable) -> Program:
    op, left, right = tree["compare"], tree["left"], tree["right"]
    if "value" in left:
        left, right, op = right, left, _OPPOSITE[op]
    column = table.columns[left["column"]]
    if "value" in right:
        return _test(column, op, [right["value"]])
    other = table.columns[right["column"]]
    if isinstance(column, CategoryColumn) and isinstance(other, CategoryColumn):
        codes = [column.label_codes.get(label, -1) for label in other.labels]
        return [("same", column.codes, other.codes, np.array(codes, dtype=np.int32), op == "==")]
    if isinstance(column, BooleanColumn) and isinstance(other, BooleanColumn):
        return [("flag", column.values, other.values, False, op == "==")]
    assert isinstance(column, (NumberColumn, TimeColumn))
    assert isinstance(other, (NumberColumn, TimeColumn))
    return [(column.kind, column.values, other.values, 0, op)]


def _list(tree: Tree, table: ItemTable) -> Program:
    left, values, negated = tree["in"], tree["values"], tree.get("negated", False)
    if "value" in left:  # "x" in tags; a list is in a column that it shares a value with
        return _test(table.columns[values[0]["column"]], "!=" if negated else "==", _listed(left["value"]))
    return _test(table.columns[left["column"]], "!=" if negated else "==", [one["value"] for one in values])


def _test(column: Column, op: str, values: list[Any]) -> Program:
    """Return the comparison of a column with values: == holds for any of them, != for none."""
    if isinstance(column, CategoryColumn):
        accepted = _accepted(column.label_codes, values, len(column.labels))
        return [("codes", column.codes, accepted if op == "==" else 1 - accepted)]
    if isinstance(column, CategoriesColumn):
        accepted = _accepted(column.label_codes, values, len(column.labels))
        return [("list", column.offsets, column.codes, accepted, op == "!=")]
    if isinstance(column, TextColumn):
        return [("text", column.offsets, column.data, [value.encode() for value in values], op == "!=")]
    if isinstance(column, BooleanColumn):
        parts: Program = [("flag", column.values, None, value, op == "==") for value in values]
    else:
        assert isinstance(column, (NumberColumn, TimeColumn))
        constants = [float(value) if column.kind == "number" else milliseconds(value) for value in values]
        parts = [(column.kind, column.values, None, constant, op) for constant in constants]
    if not parts:  # not in (): true unless the value is missing
        return [("constant", False)] if op == "==" else [_missing(column), ("not",)]
    return parts if len(parts) == 1 else [*parts, ("all" if op == "!=" else "any", len(parts))]


def _accepted(codes: Mapping[str, int], values: Iterable[Any], n_labels: int) -> np.ndarray:
    accepted = np.zeros(n_labels, dtype=np.uint8)
    accepted[[codes[value] for value in values if value in codes]] = 1
    return accepted
