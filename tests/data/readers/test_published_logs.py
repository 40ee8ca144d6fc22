"""The raw logs of published sets: fixtures worked by hand, and the published steps in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.readers import read
from mtaw_fast.data.readers.options import ScriptOptions
from mtaw_fast.errors import DataError
from tests.support.data import reference_reader as reference
from tests.support.data.raw_logs import DAY, MINUTE, T0, dataset15, events, session


def test_retailrocket_equals_the_script(tmp_path: Path) -> None:
    """A random log, prepared as the two published scripts do it, row by row."""
    rng = np.random.default_rng(3)
    rows = []
    for visitor in range(400):
        stamp = T0 + int(rng.integers(0, 30 * DAY))
        for _ in range(int(rng.integers(1, 9))):
            stamp += int(rng.choice([500, 700, 5 * MINUTE, 29 * MINUTE, 30 * MINUTE, 31 * MINUTE]))
            event = str(rng.choice(["view", "view", "view", "addtocart", "transaction"]))
            rows.append((stamp, visitor, event, int(rng.zipf(1.4)) % 150))
    order = rng.permutation(len(rows))
    rows = [rows[k] for k in order]
    by_visitor = sorted(((v, t // 1000, event, i) for t, v, event, i in rows), key=lambda row: row[:2])
    cut: list[list[tuple[int, int, str, int]]] = []
    for place, row in enumerate(by_visitor):
        if place == 0 or abs(row[1] - by_visitor[place - 1][1]) > 1800:
            cut.append([])
        cut[-1].append(row)
    sessions = [[(i, t * 1000) for _, t, event, i in session if event == "view"] for session in cut]
    ended = [(session[-1][1], number, session) for number, session in enumerate(sessions) if session]
    expected: Any = reference.prepare(ended, ScriptOptions(min_session=3, max_session=None, min_prefix=2))
    assert len(expected["train"]) > 50
    assert len(expected["test"]) > 20
    assert reference.contents(read("retailrocket", events(tmp_path / "events.csv", rows))) == expected


def test_retailrocket_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events\.csv does not exist"):
        read("retailrocket", tmp_path)
    with pytest.raises(DataError, match="is never 'view'"):
        read("retailrocket", events(tmp_path / "events.csv", [(T0, 1, "addtocart", 2)]))
    (tmp_path / "events.csv").write_text("time,visitorid,event,itemid\n1,2,view,3\n")
    with pytest.raises(DataError, match="no column 'timestamp'"):
        read("retailrocket", tmp_path)


def test_tmall_by_hand(tmp_path: Path) -> None:
    rows = [
        *session(3, [7, 8, 7, 8, 7, 8, 7, 8, 7, 8], 500),
        *session(1, [8, 7, 9], 100),  # 9 has a support of 1
        *session(2, [7], 200),  # one click: left out
        *session(4, [7, 9999], 300),  # one click of support: left out
        *session(5, [7, 8] * 20, 600),  # 40 clicks: kept
        *session(6, [7, 8] * 20 + [7], 700),  # 41: left out, though its clicks counted for the support
        *session(7, [8, 8], 400),
        *session(8, [8, 7], 400),  # the same end as session 7, which stands first
        *session(9, [7, 7], 119_899),
        *session(10, [7, 7, 8], 119_900),  # ends exactly 100 before the last: in neither part
        *session(11, [8, 9999, 7, 8], 119_901),
        *session(12, [7, 8], 119_999),
        (12, 7, 120_000),
        (13, 7, 120_001),  # over the limit: the log ends before this row,
        *session(14, [7, 8, 7, 8], 50),  # whatever follows
    ]
    dataset = read("tmall", dataset15(tmp_path / "dataset15.csv", rows))
    contents = reference.contents(dataset)
    assert contents["train"] == [[8, 7], [8, 8], [8, 7], [7, 8] * 5, [7, 8] * 20, [7, 7]]
    assert contents["ids"] == [8, 7]
    assert (contents["times"], contents["test times"]) == (None, None)  # they are no times of day
    assert contents["test"] == [(0, [8], 7), (0, [8, 7], 8), (1, [7], 8), (1, [7, 8], 7)]
    assert (dataset.min_prefix, dataset.name) == (1, "tmall")
    assert read("tmall", tmp_path).n_train_samples == dataset.n_train_samples == 1 + 1 + 1 + 9 + 39 + 1


def test_tmall_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset15\.csv does not exist"):
        read("tmall", tmp_path)
    with pytest.raises(DataError, match="over 120000 already"):
        read("tmall", dataset15(tmp_path / "dataset15.csv", [(1, 2, 120_001)]))
    (tmp_path / "dataset15.csv").write_text("SessionId,ItemId,Time\n1,2,3\n")
    with pytest.raises(DataError, match="separator"):
        read("tmall", tmp_path)
