"""Records are checked before a reader learns from them."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemFrame
from mtaw_fast.items.changes import TableChange
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click, parse
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.table_parts import TableParts, table_parts

WRONG = [
    b'{"session": 1}',
    b"[]",
    b"3",
    b'{"forget": "s"}',
    b'{"session":"s","item":1}',
    b"{",
    b"\xff",
    b'{"forget": 123, "time": 1}',
    b'{"forget": null, "time": 1}',
    b'{"forget": ["s"], "time": 1}',
    b'{"session": 5, "item": 5, "time": 1}',
    b'{"session": "s", "item": true, "time": 1}',
    b'{"session": "s", "item": 9223372036854775808, "time": 1}',
    b'{"session": "s", "item": 5, "time": 1, "id": 7}',
    b'{"session": "s", "item": 5, "time": 1, "type": []}',
    b'{"session": "s", "item": 5, "time": true}',
    b'{"session": "s", "item": 5, "time": 1e3}',
    b'{"session": "s", "item": 5, "time": 99999999999999999999}',
    b'{"add": "abc", "time": 1}',
    b'{"add": [null], "time": 1}',
    b'{"add": [["a"]], "time": 1}',
    b'{"add": ["a", "b"], "neighbors": [["c"]], "time": 1}',
    b'{"add": ["a"], "neighbors": ["c"], "time": 1}',
    b'{"add": ["a"], "neighbors": [[{}]], "time": 1}',
    b'{"add": ["a"], "vectors": [["c"]], "time": 1}',
    b'{"add": ["a"], "vectors": [[NaN]], "time": 1}',
    b'{"add": ["a"], "vectors": [[1e999]], "time": 1}',
    b'{"remove": "a", "time": 1}',
    b'{"remove": [1.5], "time": 1}',
    b'{"hide": {}, "time": 1}',
    b'{"rules": "r", "are": [], "time": 1}',
    b'{"table": "t", "part": 2, "of": 2, "data": "", "time": 1}',
    b'{"session": "s", "item": 5, "time": 1, "arrived": -1}',
    b'{"session": "s", "item": 5, "time": 1, "context": {"a": 1}}',
    b"[" * 100_000,
]


def test_records_of_wrong_types_are_damaged_and_end_no_reader(tmp_path: Path) -> None:
    log = FileLog(tmp_path)
    with (tmp_path / "events-0000000000.log").open("ab") as file:
        file.writelines(b"%08x %b\n" % (zlib.crc32(record), record) for record in WRONG)
    log.append([Click("s", "sku-1", 1)])
    assert [entry.event for entry in log.read(START)] == [Click("s", "sku-1", 1)]
    assert log.damaged == len(WRONG)
    log.close()


def test_a_kind_of_a_later_release_is_no_damage() -> None:
    assert parse(b'{"rename": 5, "time": 1}') is None


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
