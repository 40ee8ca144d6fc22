"""Generic click logs in CSV or Parquet: one file, a folder of parts, or a glob pattern."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import times
from mtaw_fast.data.readers.assemble import Rules, by_inactivity, by_owner, filter_sessions, to_dataset
from mtaw_fast.data.readers.log import Columns, read_log
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.errors import DataError, UsageError

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class ClickOptions:
    """How to read a click log. The defaults suit a log with columns session_id, item_id, timestamp.

    Columns
        session: column of the session id; not read where `user` is given.
        user: column of the user id: sessions are made by cutting a user's clicks where more than `gap` seconds
        lie between two. item, time: as they say. type, types: keep only rows whose column `type` holds one of
        `types` (('view',), say); the other rows still bridge gaps, as in the published scripts.
        time_unit: 's' or 'ms' since 1970, of numbers; 'auto' tells by their size. ISO-8601 texts need none; UTC
        where they name no offset. separator: of CSV; None is a tab for .tsv and .tab, else a comma.
    Filters
        min_session: fewest clicks of a session, before and after the support filter. max_session: most clicks,
        after it; longer sessions are left out; None: no limit. min_support: fewest clicks of an item in the
        sessions of at least min_session clicks. support_rounds: 'once', or 'until-stable' to repeat both
        filters until nothing changes.
    Split
        test_days: sessions that end within this many days before the last session's end are test; 0: no test.
        A session that ends exactly at the boundary is training. min_prefix: shortest prefix that is a sample.
    """

    session: str = "session_id"
    item: str = "item_id"
    time: str = "timestamp"
    user: str | None = None
    gap: float = 1800.0
    type: str | None = None
    types: tuple[str, ...] = ()
    time_unit: str = "auto"
    separator: str | None = None
    min_session: int = 2
    max_session: int | None = None
    min_support: int = 5
    support_rounds: str = "once"
    test_days: float = 7.0
    min_prefix: int = 1

    def __post_init__(self) -> None:
        checks = {
            "gap": math.isfinite(self.gap) and self.gap > 0,
            "time_unit": self.time_unit in times.UNITS,
            "separator": self.separator is None or (len(self.separator) == 1 and self.separator.isascii()),
            "min_prefix": self.min_prefix >= 1,
            "min_support": self.min_support >= 1,
            "support_rounds": self.support_rounds in ("once", "until-stable"),
            "test_days": math.isfinite(self.test_days) and 0 <= self.test_days < 100_000,
        }
        for name, fine in checks.items():
            if not fine:
                raise UsageError(f"click option {name}={getattr(self, name)!r} is out of range")
        if self.min_session < self.min_prefix + 1:
            raise UsageError(
                f"click option min_session={self.min_session}: a session needs min_prefix + 1 = {self.min_prefix + 1} "
                "clicks to hold a sample; raise it"
            )
        if self.max_session is not None and self.max_session < self.min_session:
            raise UsageError(f"click option max_session={self.max_session} is below min_session={self.min_session}")
        if (self.type is None) != (not self.types):
            raise UsageError("click options type and types go together: the column, and the values that are clicks")


def read(source: Path, options: ClickOptions | None = None, name: str | None = None) -> Dataset:
    """Read a click log of any size: streamed, under 100 bytes a row plus the distinct texts (`bench.prepare` measures).

    source: a CSV or Parquet file, a folder of such parts (read in order of their names) or a glob pattern.
    Rows may stand in any order; clicks of equal time stay in file order. Sessions stand in order of their
    last click, as in the published scripts, ties by their first row (by user and time with `user`). A
    session's end is that of all its clicks, before items of low support are left out.

    Raises DataError, with file, column, row and value, on anything that cannot be read; UsageError on options
    that make no sense.
    """
    options = options or ClickOptions()
    columns = Columns(
        owner=options.session if options.user is None else options.user,
        item=options.item,
        time=options.time,
        type=options.type,
        types=options.types,
        time_unit=options.time_unit,
        separator=options.separator,
    )
    log = read_log(part_files(source), columns)
    rows = len(log)
    if log.click is not None and not log.click.any():
        raise DataError(f"{source}: column {options.type!r} never holds {' or '.join(map(repr, options.types))}")
    raw = by_owner(log) if options.user is None else by_inactivity(log, round(options.gap * 1000))
    item_ids = log.item_ids
    del log
    preparation = {"reader": "clicks", "rows": rows, "sessions": len(raw), "options": dataclasses.asdict(options)}
    rules = Rules(
        min_session=options.min_session,
        max_session=options.max_session,
        min_support=options.min_support,
        until_stable=options.support_rounds == "until-stable",
        test_ms=round(options.test_days * _DAY_MS),
        drop_at_boundary=False,
        min_prefix=options.min_prefix,
    )
    return to_dataset(
        filter_sessions(raw, rules, str(source)), item_ids, rules, name or _default_name(source), preparation
    )


def _default_name(source: Path) -> str:
    """The file's name without its endings; a pattern's folder."""
    if any(sign in source.name for sign in "*?["):
        source = source.parent
    return source.name.split(".")[0] or "clicks"
