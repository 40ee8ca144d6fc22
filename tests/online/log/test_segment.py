"""Redaction of a segment: the same bytes as when every record is parsed, with memory that its size does not change."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.online.log import segment
from mtaw_fast.online.log.events import AddItems, Click, Event, Forget
from mtaw_fast.online.log.segment import parse_record, record_of, redact_clicks

NAMES = ["s", "s1", "", 'quote"', "back\\slash", "line\nfeed", "ü 漢", "\ud800", '","item":1', " ", "forget"]


def position(offset: int) -> str:
    return f"{offset:012d}"


def redacted(data: bytes, forgotten: Mapping[str, str]) -> tuple[bytes, int]:
    """Return what must be left of a segment, and how many records must go."""
    lines, count, begin = data.split(b"\n"), 0, 0
    for number, line in enumerate(lines):
        begin += len(line) + 1
        try:
            event = parse_record(line)
            dropped = isinstance(event, Click) and position(begin) < forgotten.get(event.session, "")
        except (ValueError, KeyError, TypeError):
            dropped = True
        if dropped and line.strip(b" ") and position(begin) < max(forgotten.values()):
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
        forgotten = {name: position(int(rng.integers(0, len(data) + 100))) for name in names}
        path = tmp_path / "segment"
        path.write_bytes(data)
        expected, count = redacted(data, forgotten)
        assert redact_clicks(path, forgotten, position) == count
        assert path.read_bytes() == expected


def test_damage_that_is_longer_than_a_record_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "MAX_RECORD_BYTES", 100)
    click, path = record_of(Click("s", 1, 5).line()), tmp_path / "segment"
    path.write_bytes(b"x" * 1234 + b"\n" + click)
    assert redact_clicks(path, {"other": "9"}, partial(str.format, "{:06d}")) > 0
    assert path.read_bytes() == b" " * 1234 + b"\n" + click
