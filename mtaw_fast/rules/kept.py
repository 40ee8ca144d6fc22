"""Rules that are kept by name, with the item table whose columns they use."""

from __future__ import annotations

import re

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.rules.rule_set import rule_set_of

MAX_KEPT = 1000
NAME = "[A-Za-z0-9_.-]{1,64}"


def check_name(name: str) -> None:
    """Raise UsageError unless rules can be kept under a name."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise UsageError(f"rules: a name has 1 to 64 letters, digits, and . _ -, not {shown(name, 60)}")


def broken_rules(table: ItemTable | None) -> dict[str, str]:
    """Return why kept rules do not fit the table any more, in one line each, by name."""
    reasons = {}
    for name, rules in () if table is None else table.rules.items():
        try:
            rule_set_of(rules, name=name).check(table)
        except UsageError as error:
            reasons[name] = f"{error}; until then the rules are refused"
    return reasons
