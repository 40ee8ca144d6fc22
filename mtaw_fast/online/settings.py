"""Where a service learns, and how much of it is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtaw_fast.errors import UsageError
from mtaw_fast.live.limits import LearningLimits

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How a recommender learns.

    Attributes
    ----------
    folder : Path
        Holds the grown bundle and, unless `stream` names another place, the log.
    stream : str, optional
        redis://host:port/db?stream=name: the log is a Redis stream that several machines share.
    sync : bool, default False
        Whether an event is acknowledged after fsync; else after write(2), with an fsync every 20 ms.
    keep_days : float, default 30
        Days that learned sessions and the log are kept.
    max_bytes : int, default 2 GiB
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
    sync: bool = False
    keep_days: float = 30.0
    max_bytes: int = 2 << 30
    compact: bool = True
    compact_clicks: int = 200_000
    compact_seconds: float = 3600.0
    limits: LearningLimits = field(default_factory=LearningLimits)

    def __post_init__(self) -> None:
        for name in ("keep_days", "max_bytes", "compact_clicks", "compact_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"learning setting {name}={getattr(self, name)} must be positive")

    @property
    def keep_ms(self) -> int:
        """`keep_days` in milliseconds."""
        return int(self.keep_days * DAY_MS)

    def arguments(self) -> list[str]:
        """The settings that a compactor needs, as its command line takes them."""
        found = ["--learn", str(self.folder), "--keep-days", str(self.keep_days), "--max-bytes", str(self.max_bytes)]
        if self.stream is not None:
            found += ["--stream", self.stream]
        return [*found, "--limits", ",".join(f"{name}={value}" for name, value in _fields(self.limits).items())]


def limits_of(text: str) -> LearningLimits:
    """The limits of `name=value` pairs with commas between. Raises UsageError on an unknown name or a bad value."""
    values: dict[str, Any] = {}
    known = _fields(LearningLimits())
    for pair in filter(None, text.split(",")):
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
