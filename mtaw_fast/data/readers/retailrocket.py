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
from mtaw_fast.data.readers.click_log import ClickLog, read_log
from mtaw_fast.data.readers.dataset_builder import build, inactivity_cuts
from mtaw_fast.data.readers.options import ScriptOptions
from mtaw_fast.data.readers.sources import on_disk, single_file
from mtaw_fast.data.readers.stream import ClickStream, by_gap
from mtaw_fast.errors import DataError

FORMAT = "retailrocket"
_OPTIONS = ScriptOptions(
    user="visitorid", item="itemid", time="timestamp", type="event", types=("view",), time_unit="ms", separator=",",
    gap=1800.0, min_session=3, max_session=None, min_prefix=2,
)  # fmt: skip


def read(source: Path, name: str | None = None) -> Dataset:
    """Read `events.csv`, or the folder that holds it. Raises DataError on anything that cannot be read.

    The clicks keep their times, cut to whole seconds; in a session of two visitors they can decrease.
    """
    path = single_file(source, "events.csv")
    return build(_log(path), _OPTIONS, str(path), name or FORMAT, {"format": FORMAT}, {"reader": FORMAT})


def stream(source: Path, reader: Mapping[str, Any]) -> ClickStream:
    """Read the views of a log like `events.csv`; see `readers.read_stream`."""
    log = _log(
        single_file(source, "events.csv"),
        item_ids=reader.get("item_ids", "auto"),
        type_names=reader.get("type_names", ()),
        with_owner_ids=True,
    )
    return by_gap(log, *inactivity_cuts(log, _OPTIONS))


def _log(path: Path, **read_options: Any) -> ClickLog:
    log = read_log([on_disk(path)], _OPTIONS, **read_options)
    if not log.is_click.any():
        raise DataError(f"{path}: column 'event' is never 'view'; is this RetailRocket's events.csv?")
    return dataclasses.replace(log, time=log.time // 1000 * 1000)
