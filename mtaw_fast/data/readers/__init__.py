"""Readers: from a click log or a published form of a data set to a `Dataset`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import clicks, npz, pickled, retailrocket, tmall
from mtaw_fast.data.readers.clicks import ClickOptions
from mtaw_fast.errors import UsageError

__all__ = ["FORMATS", "ClickOptions", "Format", "read"]


@dataclass(frozen=True, slots=True)
class Format:
    """One format of `read`.

    summary: what the source is, in one line. takes_options: whether ClickOptions apply.
    takes_min_prefix: whether `min_prefix` can be given (else the format fixes it).
    """

    summary: str
    load: Callable[[Path, ClickOptions, int, str | None], Dataset]
    takes_options: bool = False
    takes_min_prefix: bool = False


FORMATS: Mapping[str, Format] = {
    "clicks": Format(
        "a click log in CSV or Parquet: a file, a folder of parts or a glob pattern",
        lambda source, options, _, name: clicks.read(source, options, name),
        takes_options=True,
    ),
    "npz": Format(
        "a folder with train.npz and test.npz (packed sessions)",
        lambda source, _, __, name: npz.read(source, name),
    ),
    "pickle": Format(
        "a folder with train.txt, test.txt, all_train_seq.txt (SR-GNN, GCE-GNN, S2-DHCN); no code in it is run",
        lambda source, _, min_prefix, name: pickled.read(source, min_prefix, name),
        takes_min_prefix=True,
    ),
    "retailrocket": Format(
        "RetailRocket's raw events.csv, or its folder",
        lambda source, _, __, name: retailrocket.read(source, name),
    ),
    "tmall": Format(
        "Tmall's dataset15.csv, or its folder",
        lambda source, _, __, name: tmall.read(source, name),
    ),
}


def read(
    fmt: str,
    source: Path,
    *,
    options: ClickOptions | None = None,
    min_prefix: int | None = None,
    name: str | None = None,
) -> Dataset:
    """Read `source` in one of `FORMATS`.

    options: of a click log (format 'clicks' alone; its min_prefix is in them). min_prefix: the shortest
    prefix that the set's samples have (format 'pickle' alone; 1 if None). name: of the data set; None
    takes it from the source.

    Raises UsageError on an unknown format or an argument that it does not take, DataError on bad data.
    """
    if fmt not in FORMATS:
        raise UsageError(f"there is no format {fmt!r}; choose one of {', '.join(FORMATS)}")
    if options is not None and not FORMATS[fmt].takes_options:
        raise UsageError(f"the format {fmt!r} takes no click options; leave them out or use the format 'clicks'")
    if min_prefix is not None and not FORMATS[fmt].takes_min_prefix:
        where = "set it in the click options" if fmt == "clicks" else "the format fixes it, so leave it out"
        raise UsageError(f"the format {fmt!r} takes no min_prefix here; {where}")
    return FORMATS[fmt].load(Path(source), options or ClickOptions(), 1 if min_prefix is None else min_prefix, name)
