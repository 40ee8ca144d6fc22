"""Where a service learns, and how much of it is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtaw_fast.errors import UsageError

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LearningLimits:
    """How much is learned from whom.

    Attributes
    ----------
    session_gap : int, default 1_800_000
        Milliseconds without a click after which an id means a new session.
    session_clicks : int, default 200
        Clicks of one session that are learned; later ones are not.
    burst_clicks, burst_ms : int, default 30 and 10_000
        A session with more clicks than this within so many milliseconds is a bot: nothing more is learned from it,
        and what it has taught is taken out.
    fresh_clicks : int, default 3
        The first so many clicks of a session are fresh: they cost a flood of new sessions the least.
    item_floor, item_share, item_window : int, float, int, default 50, 0.3 and 60_000
        Of the fresh clicks within a window of so many milliseconds, one item's are learned up to the floor or up to
        this share of all of them so far, whichever is more. A share below 1 / `fresh_clicks` holds although a flood
        clicks other items too: one click of each of its sessions is on the item that it shall lift.
    late : int, default 86_400_000
        Milliseconds behind the newest event by which another may come and still be learned.
    new_items : int, default 65_536
        Items that may enter the catalog while serving.
    min_clicks : int, default 1
        Clicks that an item which entered so needs before it is recommended.

    Raises
    ------
    UsageError
        Where a limit is out of range.
    """

    session_gap: int = 1_800_000
    session_clicks: int = 200
    burst_clicks: int = 30
    burst_ms: int = 10_000
    fresh_clicks: int = 3
    item_floor: int = 50
    item_share: float = 0.3
    item_window: int = 60_000
    late: int = 86_400_000
    new_items: int = 65_536
    min_clicks: int = 1

    def __post_init__(self) -> None:
        least = {"fresh_clicks": 0, "new_items": 0, "item_floor": 0, "late": 0}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name == "item_share":
                fine = 0 < value <= 1
            else:
                fine = isinstance(value, int) and least.get(name, 1) <= value < 2**53
            if not fine:
                raise UsageError(f"learning limit {name}={value} is out of range; see LearningLimits")


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How a recommender learns.

    Attributes
    ----------
    folder : Path
        Holds the grown bundle and, unless `stream` names another place, the log.
    stream : str, optional
        redis://host:port/db?stream=name: the log is a Redis stream that several machines share.
    fsync : bool, default False
        Whether an event is acknowledged after fsync; else after write(2), with an fsync every 20 ms.
    retention_days : float, default 30
        Days that learned sessions and the log are kept.
    max_log_bytes : int, default 2 GiB
        Of the log; past it the oldest segments that were taken in are deleted.
    compact : bool, default True
        Whether this process takes what was learned into the grown bundle when it is due.
    compact_clicks : int, default 200_000
        Clicks in the delta from which it is due.
    compact_seconds : float, default 3600
        Seconds after which it is due, however few there are.
    limits : LearningLimits
        Who teaches how much. All processes that share a folder are given the same.

    Raises
    ------
    UsageError
        Where a setting is out of range.
    """

    folder: Path
    stream: str | None = None
    fsync: bool = False
    retention_days: float = 30.0
    max_log_bytes: int = 2 << 30
    compact: bool = True
    compact_clicks: int = 200_000
    compact_seconds: float = 3600.0
    limits: LearningLimits = field(default_factory=LearningLimits)

    def __post_init__(self) -> None:
        for name in ("retention_days", "max_log_bytes", "compact_clicks", "compact_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"learning setting {name}={getattr(self, name)} must be positive")

    @property
    def retention_ms(self) -> int:
        """`retention_days` in milliseconds."""
        return int(self.retention_days * DAY_MS)

    def arguments(self) -> list[str]:
        """The settings that a compactor needs, as its command line takes them."""
        found = [
            "--learn", str(self.folder), "--retention-days", str(self.retention_days),
            "--max-log-bytes", str(self.max_log_bytes),
        ]  # fmt: skip
        if self.stream is not None:
            found += ["--stream", self.stream]
        for name, value in _fields(self.limits).items():
            found += ["--learn-limit", f"{name}={value}"]
        return found


def limits_of(pairs: Iterable[str]) -> LearningLimits:
    """The limits of `name=value` pairs, later ones winning. Raises UsageError on an unknown name or a bad value."""
    values: dict[str, Any] = {}
    known = _fields(LearningLimits())
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in known:
            raise UsageError(f"there is no learning limit {name!r}; the limits are {', '.join(known)}")
        try:
            values[name] = type(known[name])(value)
        except ValueError:
            raise UsageError(f"learning limit {name}={value!r} must be {type(known[name]).__name__}") from None
    return LearningLimits(**values)


def _fields(limits: LearningLimits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in limits.__dataclass_fields__}
