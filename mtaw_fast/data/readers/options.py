"""The options of a click log: how it is read, filtered and split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mtaw_fast.data.bots import LONGEST, BotRule
from mtaw_fast.data.context import MAX_COLUMNS
from mtaw_fast.data.moments import moment_of
from mtaw_fast.data.readers.times import UNITS
from mtaw_fast.errors import UsageError, require

DAY_MS = 86_400_000
LISTS = ("types", "context")  # options that are tuples, which a manifest keeps as lists
SKIPPING = ", or leave them out with --bad-rows skip"  # the end of a message about rows that could be skipped


@dataclass(frozen=True, slots=True)
class ClickOptions:
    """How to read a click log. The defaults suit a log with columns session_id, item_id, timestamp.

    Columns
        session: column of the session id; not read if `user` is given.
        user: column of the user id; a user's clicks are cut into sessions at gaps of more than `gap` seconds.
        item, time: columns of the item id and the time. type: column of the event type, which the data set keeps.
        types: count only rows of these types, such as ('view',); the other rows still bridge gaps, as in the published
        scripts. Empty: every row is a click.
        time_unit: unit of numeric times since 1970: 's', 'ms', 'us' or 'ns'; 'auto' decides by their size. ISO-8601
        texts need none; they are UTC unless they name an offset or a zone.
        context: columns of what is known of the visit at a click, such as ('referrer', 'region'): text or whole
        numbers, at most 8 columns. The 1,000 most frequent values of a column are told apart (`data.context`).
        separator: column separator of CSV; None is a tab for .tsv and .tab, else a comma.
    Rows
        bad_rows: 'refuse' a log with an unreadable row, or 'skip' such rows (the data set has their number).
        dedupe: remove a click if the same session (or user) clicked the same item with the same type at most this many
        seconds before; 0: at the same time; None: remove none.
        since, until: keep clicks from `since` on and before `until`: ISO-8601 text (UTC unless it names an offset) or
        Unix milliseconds; None: no bound.
        merge_types: make one click of events of several types on one item in a row, such as view, cart and purchase. It
        has the time of the first event and the type of the last one, or with `types` the last of their types in that
        order.
    Filters
        min_session: fewest clicks of a session, before and after the support filter. max_session: most clicks after
        it; longer sessions, mostly bots, are left out; None: no limit. min_support: fewest clicks of an item in the
        sessions of at least min_session clicks. support_rounds: 'once', or 'until-stable' to repeat both filters until
        nothing changes.
    Split
        test_days: sessions that end within this many days before the last session's end are the test split; 0: no test
        split. A session that ends exactly at the boundary is training. min_prefix: shortest prefix that is a sample.
    """

    session: str = "session_id"
    item: str = "item_id"
    time: str = "timestamp"
    user: str | None = None
    gap: float = 1800.0
    type: str | None = None
    types: tuple[str, ...] = ()
    time_unit: Literal["auto", "s", "ms", "us", "ns"] = "auto"
    separator: str | None = None
    bad_rows: Literal["refuse", "skip"] = "refuse"
    dedupe: float | None = None
    min_session: int = 2
    max_session: int | None = LONGEST
    min_support: int = 5
    support_rounds: Literal["once", "until-stable"] = "once"
    test_days: float = 7.0
    min_prefix: int = 1
    context: tuple[str, ...] = ()
    since: str | int | None = None
    until: str | int | None = None
    merge_types: bool = False

    scripted: ClassVar[bool] = False

    def __post_init__(self) -> None:
        checks = {
            "gap": math.isfinite(self.gap) and self.gap > 0,
            "time_unit": self.time_unit in UNITS,
            "separator": self.separator is None or (len(self.separator) == 1 and self.separator.isascii()),
            "bad_rows": self.bad_rows in ("refuse", "skip"),
            "dedupe": self.dedupe is None or (math.isfinite(self.dedupe) and self.dedupe >= 0),
            "min_prefix": self.min_prefix >= 1,
            "min_support": self.min_support >= 1,
            "support_rounds": self.support_rounds in ("once", "until-stable"),
            "test_days": math.isfinite(self.test_days) and 0 <= self.test_days < 100_000,
        }
        for name, ok in checks.items():
            if not ok:
                raise UsageError(f"click option {name}={getattr(self, name)!r} is out of range")
        for name in LISTS:
            if isinstance(value := getattr(self, name), str):
                raise UsageError(
                    f"click option {name} must be a list, not {value!r}; write [{value!r}] for a single one"
                )
        if self.min_session < self.min_prefix + 1:
            raise UsageError(
                f"click option min_session={self.min_session}: a session needs min_prefix + 1 = {self.min_prefix + 1} "
                "clicks to hold a sample; raise it"
            )
        if self.max_session is not None and self.max_session < self.min_session:
            raise UsageError(f"click option max_session={self.max_session} is below min_session={self.min_session}")
        start, end = self.window_ms
        if start is not None and end is not None and start >= end:
            raise UsageError(f"click option since={self.since!r} is not before until={self.until!r}")
        if self.merge_types and self.type is None:
            raise UsageError("click option merge_types needs type: the column that holds the types")
        if self.types and self.type is None:
            raise UsageError("click option types needs type: the column that holds them")
        if len(self.context) > MAX_COLUMNS or len(set(self.context)) != len(self.context):
            raise UsageError(f"click option context={self.context!r}: name at most {MAX_COLUMNS} columns, each once")
        if any(not name or not name.isprintable() for name in self.context):
            raise UsageError(f"click option context={self.context!r}: a column's name is empty or has odd characters")

    @property
    def owner(self) -> str:
        """The column of the session id, or of the user id if sessions are cut by inactivity."""
        return self.session if self.user is None else self.user

    @property
    def columns(self) -> list[str]:
        """The names of all columns that are read."""
        return [self.owner, self.item, self.time, *([] if self.type is None else [self.type]), *self.context]

    @property
    def counted(self) -> Any:
        """The polars condition of the rows that count as clicks by their type."""
        pl = require("polars", "train")
        if self.type is None or not self.types:
            return pl.lit(True)
        return pl.col(self.type).cast(pl.String).is_in(list(self.types)).fill_null(False)

    @property
    def skips(self) -> bool:
        """Whether bad rows are skipped."""
        return self.bad_rows == "skip"

    @property
    def remedy(self) -> str:
        """The end of a message about a bad row."""
        return "" if self.skips or self.scripted else SKIPPING

    @property
    def bots(self) -> BotRule | None:
        """What a bot is, to be left out before all filters; None: nothing."""
        return None if self.scripted else BotRule(self.max_session)

    @property
    def gap_ms(self) -> int:
        """`gap` in milliseconds."""
        return round(self.gap * 1000)

    @property
    def test_ms(self) -> int:
        """`test_days` in milliseconds."""
        return round(self.test_days * DAY_MS)

    @property
    def window_ms(self) -> tuple[int | None, int | None]:
        """`since` and `until` in milliseconds since 1970."""
        return moment_of("since", self.since), moment_of("until", self.until)

    @property
    def dedupe_ms(self) -> int | None:
        """`dedupe` in milliseconds."""
        return None if self.dedupe is None else round(self.dedupe * 1000)


@dataclass(frozen=True, slots=True)
class ScriptOptions(ClickOptions):
    """The options of a published preprocessing script.

    As the scripts do, nothing is taken for a bot, and sessions that end exactly at the boundary of the test split are
    in neither split. Bad rows cannot be skipped.
    """

    scripted: ClassVar[bool] = True
