"""From the text of a condition to its tree: a part of Python's grammar, read by `ast` and never run.

A tree is made of dicts, as JSON has them (docs/rules.md):

    {"all": [TREE, ..]}   {"any": [TREE, ..]}   {"not": TREE}   {"constant": true}
    {"true": NAME, "at": 1}            a boolean column
    {"missing": NAME, "at": 1}         with "of": "current" for the last click's item
    {"compare": "<", "left": SIDE, "right": SIDE, "at": 1}
    {"in": SIDE, "values": [SIDE, ..], "at": 1}      with "negated": true for `not in`

    SIDE: {"column": NAME, "at": 1}   {"current": NAME, "at": 1}   {"value": 80, "at": 1}

`at` is the position in the text, from 1.
"""

from __future__ import annotations

import ast
import math
from typing import Any

from mtaw_fast.errors import UsageError
from mtaw_fast.system.fork_lock import PARSING

MAX_BYTES = 4096  # of a text, and of all rules together
MAX_DEPTH = 32
MAX_CLAUSES = 32  # comparisons of all rules together; `kernels.native.rules` counts limits and pins with them

Tree = dict[str, Any]

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip
_BLANKS = str.maketrans("\n\r\t\f\v", "     ")
_EXAMPLE = 'such as: brand == "x" and price < 80'


def parsed(text: str, where: str, most: int = MAX_CLAUSES) -> tuple[Tree, int]:
    """Return the tree of a condition and the number of its clauses. where: its name in errors, such as 'rules: filter'.

    Raises UsageError, one line with the position, on anything but a condition of at most `most` clauses. Nothing after
    these is read: the clauses of a long text would take milliseconds.
    """
    if not isinstance(text, str):
        raise UsageError(f"{where}: a condition is a text, {_EXAMPLE}; not {_short(text)}")
    if len(text) > MAX_BYTES or len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise UsageError(f"{where}: the condition has {len(text)} characters, the most is {MAX_BYTES} bytes")
    # One line: Python's own rules for lines say nothing here, and every character keeps its position.
    body = text.translate(_BLANKS).strip()
    lead = len(text) - len(text.translate(_BLANKS).lstrip())
    try:
        with PARSING:
            node = ast.parse(body, mode="eval").body
    except SyntaxError as error:
        position = lead + min(len(body) + 1, max(1, error.offset or 1))
        raise UsageError(f"{where}: {_cause(error)} at character {position}; write a condition {_EXAMPLE}") from None
    except (RecursionError, MemoryError):
        raise UsageError(f"{where}: the condition is nested too deeply, the most is {MAX_DEPTH}") from None
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{where}: {error}; write a condition {_EXAMPLE}") from None
    reader = _Reader(body, lead, where, most)
    return reader.tree(node, 0), most - reader.left


def _cause(error: SyntaxError) -> str:
    if error.msg.startswith("too many nested"):
        return "the brackets are nested too deeply"
    return error.msg.splitlines()[0]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}.."


class _Reader:
    """Turns Python's tree of one text into ours."""

    def __init__(self, body: str, lead: int, where: str, most: int) -> None:
        self._body, self._lead, self._where = body, lead, where
        self._bytes = None if body.isascii() else body.encode()  # in which `ast` counts positions
        self.left = most  # clauses that may follow

    def tree(self, node: ast.expr, depth: int) -> Tree:
        if depth > MAX_DEPTH:
            raise self._error(node, f"the condition is nested too deeply, the most is {MAX_DEPTH}")
        if isinstance(node, ast.BoolOp):
            parts = [self.tree(part, depth + 1) for part in node.values]
            return {"all" if isinstance(node.op, ast.And) else "any": parts}
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return {"not": self.tree(node.operand, depth + 1)}
        if isinstance(node, ast.Compare):
            return self._compared(node)
        self._count_clause()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "missing":
            return self._missing(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return {"constant": node.value}
        side = self._side(node)
        if "column" in side:
            return {"true": side["column"], "at": side["at"]}
        if "current" in side:
            return {"compare": "==", "left": side, "right": {"value": True, "at": side["at"]}, "at": side["at"]}
        raise self._error(node, f"a value alone is no condition; write a comparison {_EXAMPLE}")

    def _compared(self, node: ast.Compare) -> Tree:
        parts, left = [], node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            parts.append(self._pair(node, left, op, right))
            left = right
        return parts[0] if len(parts) == 1 else {"all": parts}

    def _count_clause(self) -> None:
        if self.left == 0:
            raise UsageError(f"{self._where}: there are more than {MAX_CLAUSES} clauses; write fewer comparisons")
        self.left -= 1

    def _pair(self, node: ast.Compare, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Tree:
        self._count_clause()
        if isinstance(op, (ast.In, ast.NotIn)):
            tree = self._member(left, right)
            # Not {"not": ..}: that would be true for a missing value.
            return {**tree, "negated": True} if isinstance(op, ast.NotIn) else tree
        name = _COMPARISONS.get(type(op))
        if name is None:
            raise self._error(node, "write == or != instead of 'is'")
        first, second = self._side(left), self._side(right)
        if "value" in first and "value" in second:
            raise self._error(left, "a comparison of two values has no column")
        return {"compare": name, "left": first, "right": second, "at": first["at"]}

    def _member(self, left: ast.expr, right: ast.expr) -> Tree:
        side = self._side(left)
        if isinstance(right, (ast.Tuple, ast.List, ast.Set)):
            values = [self._side(value) for value in right.elts]
            if any("value" not in value for value in values):
                raise self._error(right, "the list after 'in' takes values only; join comparisons with 'or'")
        else:
            values = [self._side(right)]
            if "value" in values[0]:
                raise self._error(right, 'write a list after \'in\', such as: brand in ("x", "y")')
        if "value" in side and all("value" in value for value in values):
            raise self._error(left, "a comparison of two values has no column")
        return {"in": side, "values": values, "at": side["at"]}

    def _missing(self, node: ast.Call) -> Tree:
        if len(node.args) != 1 or node.keywords:
            raise self._error(node, "missing takes one column: missing(price)")
        side = self._side(node.args[0])
        if "value" in side:
            raise self._error(node.args[0], "missing takes a column, not a value")
        if "current" in side:
            return {"missing": side["current"], "of": "current", "at": side["at"]}
        return {"missing": side["column"], "at": side["at"]}

    def _side(self, node: ast.expr) -> Tree:
        position = self._at(node)
        if isinstance(node, ast.Name):
            return {"column": node.id, "at": position}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "current":
            return {"current": node.attr, "at": position}
        if (
            isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("item", "current")
        ):
            name = node.slice.value if isinstance(node.slice, ast.Constant) else None
            if not isinstance(name, str):
                raise self._error(node, f'write the column\'s name as a text: {node.value.id}["name"]')
            self._check_text(node, name)
            return {"current" if node.value.id == "current" else "column": name, "at": position}
        return {"value": self._value(node), "at": position}

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self._value(node.operand) if isinstance(node.operand, ast.Constant) else None
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, str, int, float)):
            if isinstance(node.value, str):
                self._check_text(node, node.value)
            if isinstance(node.value, int) and abs(node.value) > 2**63 - 1:
                raise self._error(node, "a number is too large")
            if isinstance(node.value, float) and not math.isfinite(node.value):
                raise self._error(node, "a number is too large")
            return node.value
        raise self._error(node, f"{self._source(node)} is neither a column nor a value")

    def _check_text(self, node: ast.expr, text: str) -> None:
        if "\0" in text:
            raise self._error(node, "a text contains the character 0")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self._error(node, "a text contains half a character (a lone surrogate)") from None

    def _source(self, node: ast.expr) -> str:
        source = ast.get_source_segment(self._body, node) or "this"
        return " ".join(source.split()) if len(source) <= 40 else f"{' '.join(source[:37].split())}.."

    def _at(self, node: ast.expr) -> int:
        if self._bytes is None:
            return self._lead + node.col_offset + 1
        return self._lead + len(self._bytes[: node.col_offset].decode("utf-8", "replace")) + 1

    def _error(self, node: ast.expr, message: str) -> UsageError:
        return UsageError(f"{self._where}: {message} (character {self._at(node)})")
