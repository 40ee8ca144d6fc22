"""What changes of the item table make of it, in the plainest way; see docs/items.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Change = Mapping[str, Any]  # the values of a step `set_items`


@dataclass(slots=True)
class ExpectedTable:
    """The item table after some changes.

    kinds: by column. rows: values by item and column. availability: the column that says what may be recommended.
    placements: the contents of each one's revisions, by name. applied: the ids of the changes that fitted.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    availability: str | None = None
    placements: dict[str, list[Any]] = field(default_factory=dict)
    applied: set[str] = field(default_factory=set)
    _parts: dict[str, int] = field(default_factory=dict)  # of changes that are not complete: how many have come

    def take(self, event: Mapping[str, Any], change: Change) -> None:
        """Take a part of a change; the last one applies it."""
        name, received = event["table"], self._parts.get(event["table"], 0)
        if event["part"] == received:
            self._parts[name] = received + 1
        if self._parts.get(name) == event["of"]:
            del self._parts[name]
            self._apply(name, change)

    def fits(self, change: Change) -> bool:
        """Return whether a change keeps the kinds of the columns, and names an availability that there is."""
        kinds = kinds_of(change)
        if any(self.kinds.get(name, kind) != kind for name, kind in kinds.items()):
            return False
        return not change["availability"] or "on" in (kinds if change["mode"] == "replace" else {**self.kinds, **kinds})

    def _apply(self, name: str, change: Change) -> None:
        if not self.fits(change):
            return
        self.applied.add(name)
        kinds = kinds_of(change)
        if change["mode"] == "replace":
            self.availability = "on" if "on" in kinds and (change["availability"] or self.availability) else None
            self.kinds, self.rows = kinds, {}
        else:
            self.availability = "on" if change["availability"] else self.availability
            self.kinds |= kinds
        for item, row in change["rows"].items():
            values = {**self.rows.get(item, {}), **row}
            self.rows[item] = {column: value for column, value in values.items() if value is not None}

    @property
    def unavailable(self) -> set[str]:
        """Items that must not be recommended."""
        return {item for item, row in self.rows.items() if self.availability and row.get("on") is False}


def kinds_of(change: Change) -> dict[str, str]:
    """Return the kinds of a change's columns."""
    columns = {column for row in change["rows"].values() for column in row}
    return {column: change["kind"] if column == "size" else "boolean" for column in sorted(columns)}
