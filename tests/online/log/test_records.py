"""Records are checked before a reader learns from them, and overwritten as if every one were parsed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemFrame
from mtaw_fast.items.changes import TableChange
from mtaw_fast.online.log import segment
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget, parse
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.log.segment import parse_record, record_of, redact_clicks
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
    b'{"placement": "p", "is": [], "time": 1}',
    b'{"placement": "p", "revisions": [[1, 2]], "time": 1}',
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


NAMES = ["s", "s1", "", 'quote"', "back\\slash", "line\nfeed", "ü 漢", "\ud800", '","item":1', " ", "forget"]


def redacted(data: bytes, forgotten: Mapping[str, int]) -> tuple[bytes, int]:
    """Return what must be left of a segment, and how many records must go."""
    lines, count, begin = data.split(b"\n"), 0, 0
    for number, line in enumerate(lines):
        begin += len(line) + 1
        try:
            event = parse_record(line)
            dropped = isinstance(event, Click) and begin < forgotten.get(event.session, 0)
        except (ValueError, KeyError, TypeError):
            dropped = True
        if dropped and line.strip(b" ") and begin < max(forgotten.values()):
            lines[number] = b" " * len(line)
            count += 1
    return b"\n".join(lines), count


@pytest.mark.parametrize("read", [1, 500, 1 << 20])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_is_left_as_if_every_record_were_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, read: int
) -> None:
    monkeypatch.setattr(segment, "_READ_BYTES", max(read, 2))
    rng = np.random.default_rng(seed)
    data = b""
    for number in range(300):
        name = NAMES[rng.integers(len(NAMES))]
        events: list[Event] = [
            Click(name, "sku", number, id=f'"session":"{NAMES[0]}"'), Click(name, name, number), Forget(name, number),
            AddItems((name,), None, None, number),
        ]  # fmt: skip
        record = record_of(events[rng.integers(0, 4) * (rng.random() < 0.3)].line())
        if rng.random() < 0.05:
            record = record_of(b'{"of a later release": 1, "time": 5}')
        if rng.random() < 0.15:  # damaged: cut, blanked at its begin or end, or another checksum
            cut = int(rng.integers(1, len(record)))
            blanked = record[:cut] + b" " * (len(record) - cut - 1) + b"\n"
            damaged = [record[:cut] + b"\n", record[:cut], b" " * cut + record[cut:], blanked, b"0" + record[1:], b"\n"]
            record = damaged[rng.integers(0, 6)]
        data += record
    data += [b"", b"half of one", b"\n"][rng.integers(0, 3)]
    for names in (NAMES[:1], NAMES[2:6], NAMES):
        forgotten = {name: int(rng.integers(0, len(data) + 100)) for name in names}
        path = tmp_path / "segment"
        path.write_bytes(data)
        expected, count = redacted(data, forgotten)
        assert redact_clicks(path, forgotten) == count
        assert path.read_bytes() == expected


def test_damage_that_is_longer_than_a_record_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "MAX_RECORD_BYTES", 100)
    click, path = record_of(Click("s", 1, 5).line()), tmp_path / "segment"
    path.write_bytes(b"x" * 1234 + b"\n" + click)
    assert redact_clicks(path, {"other": 9_999}) > 0
    assert path.read_bytes() == b" " * 1234 + b"\n" + click
