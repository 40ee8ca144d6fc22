"""Generic click logs in CSV, Parquet or JSON lines: a file, a folder of parts, a pattern, a URL or a frame."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtaw_fast.data.bots import LONGEST, BotRule
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.click_log import read_log
from mtaw_fast.data.readers.dataset_builder import build, inactivity_cuts, no_click
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.options import LISTS, ClickOptions
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.data.readers.stream import ClickStream, by_gap, by_owner_ids

FORMAT = "clicks"
# The options that say how to read a log; the others say which clicks are kept.
_READING = (
    "session", "item", "time", "user", "gap", "type", "types", "time_unit", "separator", "bad_rows", "dedupe",
    "context", "merge_types",
)  # fmt: skip


def read(source: Any, options: ClickOptions | None = None, name: str | None = None) -> Dataset:
    """Read a click log of any size. It is streamed, with under 100 bytes per row plus the distinct texts in memory.

    source: a CSV, Parquet or JSON lines file, a folder of such parts (read in order of their names), a glob pattern, a
    URL (s3://, gs://, az://; a pattern too), or a frame of Polars, pandas or Arrow.
    Rows may be in any order; clicks of equal time stay in file order. Sessions are in order of their last click, as in
    the published scripts, ties in order of their first row (with `user`: of user and time). The end of a session is
    that of all its clicks, before items of low support are left out.

    Raises DataError, with file, column, row and value, on anything that cannot be read, and UsageError on options that
    do not fit.
    """
    options = options or ClickOptions()
    reader, preparation = record_of(options)
    parts, name = part_files(source, options.columns), name or default_name(source)
    return build(read_log(parts, options), options, place_of(source), name, reader, preparation)


def stream(source: Any, reader: Mapping[str, Any]) -> ClickStream:
    """Read the clicks of a log in time order, with sessions as in `read`; see `readers.read_stream`."""
    stored = {name: reader[name] for name in _READING if name in reader}
    options = ClickOptions(**{**stored, **{name: tuple(stored.get(name, ())) for name in LISTS}})
    log = read_log(
        part_files(source, options.columns),
        options,
        item_ids=reader.get("item_ids", "auto"),
        type_names=reader.get("type_names", ()),
        with_owner_ids=True,
    )
    if not log.is_click.any():
        raise no_click(place_of(source), options, LogReport())
    if options.dedupe is not None:
        log = LogReport().read(log, options.dedupe_ms)
    clicks = by_owner_ids(log) if options.user is None else by_gap(log, *inactivity_cuts(log, options))
    return clicks.with_merged_types(bool(options.types)) if options.merge_types else clicks


def bot_rule(reader: Mapping[str, Any], **burst: int) -> BotRule | None:
    """Return the rule for bots in a log that `reader` (`Dataset.reader`) reads; None if its format has no bots.

    burst: `burst_clicks` and `burst_ms` of the rule.
    """
    return BotRule(reader.get("max_session", LONGEST), **burst) if reader.get("format") == FORMAT else None


def record_of(options: ClickOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what `Dataset.reader` and `Dataset.preparation` keep of the options."""
    values = dataclasses.asdict(options)
    lists = {name: list(values[name]) for name in LISTS}
    reading = {name: values[name] for name in (*_READING, "max_session")}
    return {"format": FORMAT, **reading, **lists}, {"reader": FORMAT, "options": values}


def place_of(source: Any) -> str:
    """Return the name of the source for messages."""
    return str(source) if isinstance(source, (str, os.PathLike)) else "the frame"


def default_name(source: Any) -> str:
    """Return the file's name without endings, or the folder's name for a pattern."""
    if not isinstance(source, (str, os.PathLike)):
        return FORMAT
    source = Path(source)
    if any(sign in source.name for sign in "*?["):
        source = source.parent
    return source.name.split(".")[0] or "clicks"
