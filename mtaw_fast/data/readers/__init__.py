"""Readers that make a `Dataset` from a click log or a published data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import clicks, npz, pickled, retailrocket, tmall
from mtaw_fast.data.readers.clicks import bot_rule
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.sources import is_url
from mtaw_fast.data.readers.stream import ClickStream
from mtaw_fast.errors import DataError, UsageError, shown

__all__ = ["FORMATS", "ClickOptions", "ClickStream", "bot_rule", "read", "read_stream"]


# Each has `read` and `stream`.
FORMATS: Mapping[str, ModuleType] = {
    "clicks": clicks,  # CSV, Parquet or JSON lines: a file, a folder of parts, a glob pattern, a URL or a frame
    "npz": npz,  # a folder with train.npz and test.npz (packed sessions)
    "pickle": pickled,  # a folder with train.txt, test.txt, all_train_seq.txt (SR-GNN, GCE-GNN, S2-DHCN)
    "retailrocket": retailrocket,  # the raw events.csv, or its folder
    "tmall": tmall,  # dataset15.csv, or its folder
}


def read(
    fmt: str,
    source: Any,
    *,
    options: ClickOptions | None = None,
    min_prefix: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Read `source`, a path (or what else the format takes), in one of `FORMATS`.

    options: how to read a click log, min_prefix included (only for format 'clicks'). min_prefix: the shortest prefix of
    the set's samples (only for format 'pickle'; None: 1). name: the data set's name; None: from the source.

    Raises UsageError on an unknown format or an argument that it does not take, DataError on bad data.
    """
    if fmt not in FORMATS:
        raise UsageError(f"there is no format {fmt!r}; choose one of {', '.join(FORMATS)}")
    if options is not None and fmt != clicks.FORMAT:
        raise UsageError(f"the format {fmt!r} takes no click options; leave them out or use the format 'clicks'")
    if min_prefix is not None and fmt != pickled.FORMAT:
        hint = "set it in the click options" if fmt == "clicks" else "the format fixes it, so leave it out"
        raise UsageError(f"the format {fmt!r} takes no min_prefix here; {hint}")
    source = _source(fmt, source)
    if fmt == clicks.FORMAT:
        return clicks.read(source, options, name)
    if fmt == pickled.FORMAT:
        return pickled.read(source, 1 if min_prefix is None else min_prefix, name)
    dataset: Dataset = FORMATS[fmt].read(source, name)
    return dataset


def read_stream(source: Any, reader: Mapping[str, Any]) -> ClickStream:
    """Read the clicks of a log in time order, with the columns, types and cuts of the data set that has `reader`.

    source: a log of the same format, as `read` takes it. reader: `Dataset.reader`, or a bundle's copy of it: `format`,
    and the format's options (for `clicks` those of ClickOptions that say how to read a log: columns, `gap`, `types`,
    `dedupe`, ..), `item_ids` ('int' or 'str', the kind of the catalog's ids) and `type_names` (the names of the first
    type codes).

    Returns every click that counts, in time order, not filtered by support, length or split. For the
    formats `npz` and `pickle` the test sessions, and for `tmall` all sessions, one after the other, without times.

    Raises UsageError if `reader` names no format: `prepare` did not make the data set. Raises DataError if `reader` is
    damaged, or the log cannot be read with it; the message names file, column, row and value.
    """
    fmt = reader.get("format")
    if fmt is None:
        raise UsageError("the data set does not say how to read a log, as 'prepare' did not make it")
    names = reader.get("type_names", [])
    if (
        not isinstance(fmt, str)
        or fmt not in FORMATS
        or reader.get("item_ids", "auto") not in ("auto", "int", "str")
        or not isinstance(names, (list, tuple))
        or not all(isinstance(name, str) for name in names)
    ):
        raise DataError(f"a reader that this release does not know: {shown(dict(reader))}; upgrade mtaw-fast")
    try:
        stream: ClickStream = FORMATS[fmt].stream(_source(fmt, source), reader)
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"a reader with options of a wrong kind ({error}): {shown(dict(reader))}") from None
    return stream


def _source(fmt: str, source: Any) -> Any:
    """Return the source as the format takes it. Raises UsageError on a frame or URL if the format needs files."""
    if isinstance(source, (str, os.PathLike)) and not is_url(source):
        return Path(source)
    if fmt != clicks.FORMAT:
        raise UsageError(f"the format {fmt!r} reads files on disk alone; name a path")
    return source
