"""Small logs and archives that tests of the readers write."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data.readers import ClickOptions, read
from mtaw_fast.errors import DataError

MINUTE = 60_000
DAY = 86_400_000
T0 = 1_430_000_000_000
HEADER = "session_id,item_id,timestamp\n"
NAMES = ("session_id", "item_id", "timestamp")
LOOSE = ClickOptions(min_support=1, test_days=0, max_session=None)
SKIP = dataclasses.replace(LOOSE, bad_rows="skip")
FRAME = pl.DataFrame({"session_id": [1, 1, 2, 2], "item_id": ["a", "b", "b", "a"], "timestamp": [1, 2, 3, 4]})


def refused(source: Any, options: ClickOptions = LOOSE) -> str:
    """The one-line message that reading `source` must raise."""
    with pytest.raises(DataError) as caught:
        read("clicks", source, options=options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def csv(path: Path, texts: list[Any]) -> Path:
    """One session, an item a row, at these times."""
    return click_log(path, [("s", f"i{k}", text) for k, text in enumerate(texts)])


def events(path: Path, rows: list[tuple[int, int, str, int]]) -> Path:
    """rows: (timestamp in ms, visitor, event, item), with the log's fifth column, empty except for purchases."""
    lines = [f"{t},{v},{event},{item},{'17' if event == 'transaction' else ''}" for t, v, event, item in rows]
    path.write_text("timestamp,visitorid,event,itemid,transactionid\n" + "\n".join(lines) + "\n")
    return path


def views(start: int, visitor: int, items: list[int], step: int = MINUTE) -> list[tuple[int, int, str, int]]:
    return [(start + k * step, visitor, "view", item) for k, item in enumerate(items)]


def dataset15(path: Path, rows: list[tuple[int, int, int]]) -> Path:
    path.write_text("SessionId\tItemId\tTime\n" + "".join(f"{s}\t{i}\t{t}\n" for s, i, t in rows))
    return path


def session(number: int, items: list[int], last: int) -> list[tuple[int, int, int]]:
    """Clicks whose times fall toward `last`, since their order in the file is what counts."""
    return [(number, item, last + (len(items) - 1 - k)) for k, item in enumerate(items)]


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def click_log(path: Path, rows: list[tuple[Any, ...]], header: str = HEADER) -> Path:
    return write_text(path, header + "".join(",".join(map(str, row)) + "\n" for row in rows))


def npz_arrays() -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays of a small train.npz and test.npz."""
    train = {
        "items": np.array([1, 2, 3, 3, 1], np.int32),
        "offsets": np.array([0, 3, 5], np.int64),
        "n_items": np.int32(4),
        "min_prefix": np.int32(1),
    }
    test = {
        "items": np.array([4, 2, 4, 1], np.int32),
        "offsets": np.array([0, 2, 3, 4], np.int64),
        "labels": np.array([1, 2, 3], np.int32),
        "session": np.array([0, 0, 1], np.int32),
    }
    return train, test


def write_npz(folder: Path, train: dict[str, Any], test: dict[str, Any]) -> Path:
    np.savez(folder / "train.npz", **train)
    np.savez_compressed(folder / "test.npz", **test)
    return folder


def write_pickles(folder: Path, **contents: Any) -> Path:
    for name, value in contents.items():
        (folder / f"{name}.txt").write_bytes(pickle.dumps(value))
    return folder
