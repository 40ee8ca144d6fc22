"""RetailRocket's raw `events.csv`, prepared as the published sets were.

After sessionRec/MTD's `datasets/retailrocket/preprocess_rr.py` and `datasets/preprocess_v2.py`, step by step:

1. columns timestamp (milliseconds, cut to whole seconds), visitorid, event, itemid;
2. ALL events, sorted by visitor and time, are cut at gaps of more than 30 minutes. The script does not look
   at the visitor, so the last events of one visitor and the first of the next share a session if they are
   within 30 minutes; this is kept;
3. only the views of each session; sessions of at least 3;
4. items with at least 5 clicks in what is left, counted once; again sessions of at least 3;
5. test: sessions that end in the last 7 days; one that ends exactly at the boundary is in neither split;
6. samples are prefixes of at least 2 clicks.

The published counts (433,648 training and 15,132 test samples, 36,968 items) are NOT verified, because the raw log was
not available; tests check the steps on fixtures worked out by hand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.click_log import ClickLog, Columns, read_log
from mtaw_fast.data.readers.dataset_builder import Rules, by_inactivity, filter_sessions, inactivity_cuts, to_dataset
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.sources import on_disk, single_file
from mtaw_fast.data.readers.stream import ClickStream, by_gap
from mtaw_fast.errors import DataError

_COLUMNS = Columns(
    owner="visitorid", item="itemid", time="timestamp", type="event", types=("view",), time_unit="ms", separator=","
)
_GAP_MS = 30 * 60 * 1000
_RULES = Rules(
    min_session=3,
    max_session=None,
    min_support=5,
    until_stable=False,
    test_ms=7 * 86_400_000,
    drop_at_boundary=True,
    min_prefix=2,
)


FORMAT = "retailrocket"


def read(source: Path, name: str | None = None) -> Dataset:
    """Read `events.csv`, or the folder that holds it. Raises DataError on anything that cannot be read.

    The clicks keep their times, cut to whole seconds; in a session of two visitors they can decrease.
    """
    path = single_file(source, "events.csv")
    report = LogReport()
    log = report.read(_log(path), None)
    raw = by_inactivity(log, _GAP_MS, split_owners=False)
    report.times(raw.times)
    preparation = {"reader": FORMAT, "rows": len(log), "sessions": len(raw)}
    filtered = filter_sessions(raw, _RULES, str(path), report)
    return to_dataset(filtered, log, _RULES, name or FORMAT, preparation, {"format": FORMAT}, report)


def stream(source: Path, reader: Mapping[str, Any]) -> ClickStream:
    """Read the views of a log like `events.csv`; see `readers.read_stream`."""
    log = _log(
        single_file(source, "events.csv"),
        item_ids=reader.get("item_ids", "auto"),
        type_names=reader.get("type_names", ()),
        with_owner_ids=True,
    )
    return by_gap(log, *inactivity_cuts(log, _GAP_MS, split_owners=False))


def _log(path: Path, **read_options: Any) -> ClickLog:
    log = read_log([on_disk(path)], _COLUMNS, **read_options)
    if not log.has_clicks:
        raise DataError(f"{path}: column 'event' is never 'view'; is this RetailRocket's events.csv?")
    return dataclasses.replace(log, time=log.time // 1000 * 1000)
