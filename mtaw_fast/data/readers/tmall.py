"""Tmall's `dataset15.csv` (SessionId, ItemId, Time; tab separated), prepared as the published set was.

After GCE-GNN's `datasets/process_tmall.py`, step by step:

1. the log ends before the first row whose Time is over 120,000, in file order;
2. a session's clicks stay in file order, and it ends at the time of its last row; those of one click are left out;
3. items with at least 5 clicks in what is left, counted once; sessions of 2 to 40 clicks;
4. test: sessions that end in the last 100 time units; one that ends exactly at the boundary is in neither split;
5. samples are all prefixes.

Time counts units of the publisher's own from an unknown start, so the data set keeps no times: they give no age in
hours and no hour of the day. They only order the sessions.

The published counts (351,268 training and 25,898 test samples, 40,727 items) are NOT verified, because the raw log was
not available; tests check the steps on fixtures worked out by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.click_log import ClickLog, read_log
from mtaw_fast.data.readers.dataset_builder import build, sessions_in
from mtaw_fast.data.readers.options import ScriptOptions
from mtaw_fast.data.readers.sources import on_disk, single_file
from mtaw_fast.data.readers.stream import ClickStream, whole_sessions
from mtaw_fast.errors import DataError

FORMAT = "tmall"
# Time counts whole units from 0; read as seconds, so a unit is 1000 ms here.
_OPTIONS = ScriptOptions(
    session="SessionId", item="ItemId", time="Time", time_unit="s", separator="\t", max_session=40,
    test_days=100 / 86_400,
)  # fmt: skip
_LAST_TIME_MS = 120_000 * 1000


def read(source: Path, name: str | None = None) -> Dataset:
    """Read `dataset15.csv`, or the folder that holds it. Raises DataError on anything that cannot be read."""
    path = single_file(source, "dataset15.csv")
    return build(_log(path), _OPTIONS, str(path), name or FORMAT, {"format": FORMAT}, {"reader": FORMAT}, timed=False)


def stream(source: Path, reader: Mapping[str, Any]) -> ClickStream:
    """Read the whole sessions of a log like `dataset15.csv`, by their ends; see `readers.read_stream`."""
    log = _log(single_file(source, "dataset15.csv"), item_ids=reader.get("item_ids", "auto"), with_owner_ids=True)
    return whole_sessions(log, sessions_in(log, _OPTIONS))


def _log(path: Path, **read_options: Any) -> ClickLog:
    log = read_log([on_disk(path)], _OPTIONS, **read_options)
    late = np.flatnonzero(log.time > _LAST_TIME_MS)
    if len(late):
        log = log.select(slice(int(late[0])))
    if len(log) == 0:
        raise DataError(f"{path}: the first row's Time is over 120000 already; is this Tmall's dataset15.csv?")
    return log
