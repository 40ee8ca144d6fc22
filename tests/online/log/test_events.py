"""Records are checked before a reader learns from them."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import AddItems, Click, Forget, RemoveItems, parse
from mtaw_fast.online.log.file_log import FileLog

DEEP = b"[" * 100_000
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
    DEEP,
]


@pytest.mark.parametrize("record", WRONG, ids=range(len(WRONG)))
def test_a_record_of_wrong_types_is_damaged_and_ends_no_reader(tmp_path: Path, record: bytes) -> None:
    log = FileLog(tmp_path)
    with (tmp_path / "events-0000000000.log").open("ab") as file:
        file.write(b"%08x %b\n" % (zlib.crc32(record), record))
    log.append([Click("s", "sku-1", 1)])
    assert [entry.event for entry in log.read(START)] == [Click("s", "sku-1", 1)]
    assert log.damaged == 1
    log.close()


@pytest.mark.parametrize(
    "event",
    [
        Click("s", -5, 7, "cart", "e"),
        Click("s", "", 0),
        Forget("", 9),
        AddItems((), (), None, 10),
        AddItems(("a", "b"), (("c",), ()), None, 10),
        AddItems((3,), None, ((0.5, -1e-9, 1),), 10),
        AddItems((3,), None, None, 10),
        RemoveItems((3, 4), 10),
    ],
)
def test_what_an_event_writes_is_read(event: Click | Forget | AddItems | RemoveItems) -> None:
    assert parse(event.line()) == event


def test_a_kind_of_a_later_release_is_no_damage() -> None:
    assert parse(b'{"rename": 5, "time": 1}') is None
