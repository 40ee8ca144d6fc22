"""Random item tables and rules, and what the rules mean in plain Python, without the package's code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.recommender import Recommender

Row = Mapping[str, Any]
BRANDS = ["own", "x", "y", "z", 'Zoë "q"']
TAGS = ["a", "b", "c", "d"]
TITLES = ["red shoe", "blue shoe", "hat", "日本"]
KINDS = {
    "price": "number", "cost": "number", "brand": "category", "maker": "category", "tags": "categories",
    "new": "boolean", "sale": "boolean", "title": "text", "since": "time", "until": "time",
}  # fmt: skip
_DAY = 86_400_000
_ORDER = ("<", "<=", ">", ">=", "==", "!=")


def random_rows(rng: np.random.Generator, n_items: int) -> list[dict[str, Any]]:
    """Return a row of values for each item; about a fifth of them are missing."""
    rows = []
    for _ in range(n_items):
        row: dict[str, Any] = {
            "price": float(rng.integers(0, 12)),
            "cost": float(rng.integers(0, 12)),
            "brand": str(rng.choice(BRANDS)),
            "maker": str(rng.choice(BRANDS)),
            "tags": [str(tag) for tag in rng.choice(TAGS, rng.integers(1, 4), replace=False)],
            "new": bool(rng.integers(2)),
            "sale": bool(rng.integers(2)),
            "title": str(rng.choice(TITLES)),
            "since": int(rng.integers(0, 9)) * _DAY,
            "until": int(rng.integers(0, 9)) * _DAY,
        }
        rows.append({name: value for name, value in row.items() if rng.random() < 0.8})
    return rows


def table_of(ids: Sequence[Any], rows: Sequence[Row], public: Sequence[str] = ()) -> ItemTable:
    """Return the table of a catalog's ids, in their order."""
    frame = ItemFrame.of([{"id": item, **row} for item, row in zip(ids, rows, strict=True)], kinds=KINDS)
    return ItemTable(len(ids)).replaced(frame, np.arange(len(ids)), len(ids), public)


def serve_table(rec: Recommender, table: ItemTable) -> None:
    """Give a recommender an item table."""
    rec._served.update(lambda catalog: replace(catalog, items=table))


# A condition is ("and", parts), ("or", parts), ("not", part), ("missing", side), ("flag", name),
# ("compare", [sides], [ops]), ("in", side, values, negated) or ("member", side, side of a column, negated); a side is
# ("column", name), ("current", name) or ("value", plain value, its text).


def random_condition(rng: np.random.Generator, depth: int = 2) -> Any:
    """Return a random condition."""
    kind = rng.integers(0, 11) if depth else rng.integers(4, 11)
    if kind < 2:
        return (("and", "or")[kind], [random_condition(rng, depth - 1) for _ in range(rng.integers(2, 4))])
    if kind < 4:
        return ("not", random_condition(rng, depth - 1))
    if kind == 4:
        return ("missing", (("column", "current")[rng.integers(2)], str(rng.choice(list(KINDS)))))
    if kind == 5:
        return ("flag", str(rng.choice(["new", "sale"])))
    if kind == 6:
        name = str(rng.choice(["brand", "tags", "title", "price", "since"]))
        values = [_value(rng, KINDS[name]) for _ in range(rng.integers(1, 4))]
        return ("in", ("column", name), values, bool(rng.integers(2)))
    if kind == 7:
        name = str(rng.choice(["price", "since"]))
        sides = [_value(rng, KINDS[name]), ("column", name), _value(rng, KINDS[name])]
        return ("compare", sides, [str(rng.choice(["<", "<="])) for _ in range(2)])
    if kind == 8:
        left, right = (("brand", "maker"), ("price", "cost"), ("since", "until"), ("new", "sale"))[rng.integers(4)]
        ops = _ORDER if KINDS[left] in ("number", "time") else ("==", "!=")
        other = (("column", "current")[rng.integers(2)], right)
        return ("compare", [("column", left), other], [str(rng.choice(ops))])
    if kind == 10:
        return _random_member(rng)
    name = str(rng.choice(list(KINDS)))
    ops = _ORDER if KINDS[name] in ("number", "time") else ("==", "!=")
    other = ("current", name) if rng.random() < 0.3 else _value(rng, KINDS[name])
    sides = [("column", name), other] if rng.integers(2) else [other, ("column", name)]
    return ("compare", sides, [str(rng.choice(ops))])


def _random_member(rng: np.random.Generator) -> Any:
    alike = (["price", "cost"], ["brand", "maker", "tags", "title"], ["new", "sale"], ["since", "until"])
    name, other = (str(column) for column in rng.choice(alike[rng.integers(4)], 2))
    left = ("current", other) if rng.random() < 0.4 else _value(rng, KINDS[name])
    right = (("column", "current")[rng.integers(2)], name)
    return ("member", left, right, bool(rng.integers(2)))


def _value(rng: np.random.Generator, kind: str) -> Any:
    if kind == "number":
        number = int(rng.integers(-1, 13))
        return ("value", float(number), str(number))
    if kind == "time":
        day = int(rng.integers(0, 9))
        text = f'"1970-01-{day + 1:02}"' if rng.integers(2) else str(day * _DAY)
        return ("value", day * _DAY, text)
    if kind == "boolean":
        flag = bool(rng.integers(2))
        return ("value", flag, str(flag))
    text = str(rng.choice({"category": BRANDS, "categories": TAGS, "text": TITLES}[kind] + ["other"]))
    return ("value", text, repr(text))


def text_of(condition: Any) -> str:
    """Return a condition as a user writes it."""
    kind = condition[0]
    if kind in ("and", "or"):
        return f" {kind} ".join(f"({text_of(part)})" for part in condition[1])
    if kind == "not":
        return f"not ({text_of(condition[1])})"
    if kind == "missing":
        return f"missing({_side_text(condition[1])})"
    if kind == "flag":
        return str(condition[1])
    if kind == "in":
        values = ", ".join(_side_text(value) for value in condition[2])
        return f"{_side_text(condition[1])} {'not in' if condition[3] else 'in'} [{values}]"
    if kind == "member":
        return f"{_side_text(condition[1])} {'not in' if condition[3] else 'in'} {_side_text(condition[2])}"
    sides = [_side_text(side) for side in condition[1]]
    return sides[0] + "".join(f" {op} {side}" for op, side in zip(condition[2], sides[1:], strict=True))


def _side_text(side: Any) -> str:
    return side[2] if side[0] == "value" else side[1] if side[0] == "column" else f"current.{side[1]}"


def holds(condition: Any, row: Row, current: Row) -> bool:
    """Return whether an item's row meets a condition after a click on an item with the row `current`."""
    kind = condition[0]
    if kind == "and":
        return all(holds(part, row, current) for part in condition[1])
    if kind == "or":
        return any(holds(part, row, current) for part in condition[1])
    if kind == "not":
        return not holds(condition[1], row, current)
    if kind == "missing":
        return _of(condition[1], row, current) is None
    if kind == "flag":
        return row.get(condition[1]) is True
    if kind == "in":
        left = _of(condition[1], row, current)
        return left is not None and any(_equal(left, value[1]) for value in condition[2]) != condition[3]
    if kind == "member":
        left, right = _of(condition[1], row, current), _of(condition[2], row, current)
        return left is not None and right is not None and _equal(left, right) != condition[3]
    values = [_of(side, row, current) for side in condition[1]]
    return all(_compared(op, *pair) for op, pair in zip(condition[2], pairwise(values), strict=True))


def _of(side: Any, row: Row, current: Row) -> Any:
    return side[1] if side[0] == "value" else (row if side[0] == "column" else current).get(side[1])


def _equal(left: Any, right: Any) -> bool:
    lists = [value if isinstance(value, list) else [value] for value in (left, right)]
    return bool(set(lists[0]) & set(lists[1]))


def _compared(op: str, left: Any, right: Any) -> bool:
    if left is None or right is None:
        return False
    if op in ("==", "!="):
        return _equal(left, right) == (op == "==")
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[op]


def random_rules(rng: np.random.Generator, ids: Sequence[Any]) -> dict[str, Any]:
    """Return random rules whose conditions are not texts yet; see `as_text`."""
    rules: dict[str, Any] = {}
    if rng.random() < 0.6:
        rules["filter"] = [random_condition(rng) for _ in range(rng.integers(1, 3))]
    if rng.random() < 0.6:
        sizes = (0.0, 0.01, 0.3, 2.0, 100.0)
        rules["boost"] = [
            {"when": random_condition(rng, 1), "by": float(rng.choice(sizes) * rng.choice([-1, 1]))}
            for _ in range(rng.integers(1, 4))
        ]
    if rng.random() < 0.5:
        columns = rng.choice(["brand", "maker", "tags", "new"], rng.integers(1, 3), replace=False)
        rules["limit"] = [{"per": str(column), "most": int(rng.integers(1, 5))} for column in columns]
    if rng.random() < 0.4:
        columns = rng.choice(["brand", "maker", "tags", "new"], rng.integers(1, 3), replace=False)
        rows = rng.integers(2, 7, len(columns)).tolist()
        rules["diversify"] = [
            {"per": str(column), "most": int(rng.integers(1, of)), "of": of}
            for column, of in zip(columns, rows, strict=True)
        ]
    if rng.random() < 0.4:
        pinned = rng.choice(len(ids), 3, replace=False)
        positions = rng.choice(np.arange(1, 30), 3, replace=False)
        rules["pin"] = {str(ids[index]): int(position) for index, position in zip(pinned, positions, strict=True)}
    return rules


def as_text(rules: Mapping[str, Any]) -> dict[str, Any]:
    """Return random rules as a user writes them."""
    written = dict(rules)
    if "filter" in rules:
        written["filter"] = [text_of(condition) for condition in rules["filter"]]
    if "boost" in rules:
        written["boost"] = [{"when": text_of(boost["when"]), "by": boost["by"]} for boost in rules["boost"]]
    return written


def arranged(
    ranked: Sequence[tuple[Any, Any]],
    rules: Mapping[str, Any],
    rows: Mapping[Any, Row],
    current: Row,
    order: Mapping[Any, int],
    k: int,
) -> tuple[list[Any], list[float]]:
    """Return items and scores after the rules, by their definition, of a whole ranking without removed items.

    rows, order: the values and the internal id of each external id.
    """
    boosted: list[tuple[Any, Any]] = []
    for item, score in ranked:
        matched = [boost["by"] for boost in rules.get("boost", ()) if holds(boost["when"], rows[item], current)]
        total = 0.0
        for by in matched:
            total += by
        boosted.append((item, np.float32(np.float64(np.float32(score)) + total) if matched else np.float32(score)))
    boosted.sort(key=lambda pair: (-float(pair[1]), order[pair[0]]))
    allowed = {str(item): item for item, _ in ranked}
    pins = sorted((position, allowed[item]) for item, position in rules.get("pin", {}).items() if item in allowed)
    entries: list[tuple[Any, Any, bool]] = []
    counts: Counter[Any] = Counter()
    pinned_items = {item for _, item in pins}
    while boosted:
        place = next(
            (
                number
                for number, (item, _) in enumerate(boosted)
                if item in pinned_items
                or not any(_waits(limit, item, entries, rows) for limit in rules.get("diversify", ()))
            ),
            None,
        )
        if place is None:
            break
        item, score = boosted.pop(place)
        values = [
            (number, value)
            for number, limit in enumerate(rules.get("limit", ()))
            for value in _values(rows[item].get(limit["per"]))
        ]
        if any(counts[number, value] >= rules["limit"][number]["most"] for number, value in values):
            continue
        counts.update(values)
        if item not in pinned_items:
            entries.append((item, score, False))
    for position, item in pins:
        entries.insert(position - 1, (item, None, True))
    entries = entries[:k]
    scores = []
    for index, (_, score, pinned) in enumerate(entries):
        if pinned:
            below = [value for _, value, is_pin in entries[index:] if not is_pin]
            above = [value for _, value, is_pin in entries[:index] if not is_pin]
            score = below[0] if below else above[-1] if above else np.float32(0)
        scores.append(score)
    return [item for item, _, _ in entries], scores


def _waits(limit: Mapping[str, Any], item: Any, entries: Sequence[Any], rows: Mapping[Any, Row]) -> bool:
    """Return whether as many of the last entries as may stand in a row with an item have one of its values."""
    latest = [
        _values(rows[other].get(limit["per"])) for other, _, _ in entries[max(0, len(entries) - limit["of"] + 1) :]
    ]
    return any(
        sum(value in others for others in latest) >= limit["most"] for value in _values(rows[item].get(limit["per"]))
    )


def _values(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
