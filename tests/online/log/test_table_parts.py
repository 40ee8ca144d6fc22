"""Changes of the item table through the log: cut into lines, and collected again."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemFrame
from mtaw_fast.items.changes import TableChange
from mtaw_fast.online.log.events import parse
from mtaw_fast.online.log.table_parts import TableParts, table_parts


def test_events_of_a_table_go_through_their_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtaw_fast.online.log.table_parts._PART_BYTES", 100)
    frame = ItemFrame.of([{"id": "a", "price": 1}, {"id": "b", "title": "Zoë"}, {"id": "c", "price": None}])
    for change in (
        TableChange("patch", frame),
        TableChange("replace", frame, ("price",)),
        TableChange("patch", frame, ()),
    ):
        events = table_parts(change, 5)
        assert len(events) > 2
        parts = TableParts()
        read = [parts.complete(parse(event.line())) for event in events]  # type: ignore[arg-type]
        assert read[:-1] == [None] * (len(events) - 1)
        assert read[-1] is not None
        restored = TableChange.unpacked(read[-1])
        assert (restored.mode, restored.public, restored.frame.ids) == (change.mode, change.public, ["a", "b", "c"])
        assert {k: v.values_at(np.arange(3)) for k, v in restored.frame.columns.items()} == {
            "price": [1.0, None, None], "title": [None, "Zoë", None],
        }  # fmt: skip
        assert {k: v.tolist() for k, v in restored.frame.given.items()} == {
            "price": [True, False, True], "title": [False, True, False],
        }  # fmt: skip
    with pytest.raises(DataError, match="is damaged"):
        TableChange.unpacked(b"".join(part.data for part in events[1:]))
