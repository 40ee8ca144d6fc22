"""The settings of online learning: where a recommender learns, and the limits on what it learns from whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from mtaw_fast.data.bots import BURST_CLICKS, BURST_MS
from mtaw_fast.errors import UsageError

DAY_MS = 86_400_000
_FOREVER_MS = 1 << 62
_FROM_ZERO = frozenset(
    ("fresh_visits", "new_items", "new_floor", "item_floor", "pair_floor", "origin_new", "late", "cold_start")
)  # limits that may be 0
COMPACTED = "bundle"  # the folder of the compacted bundle, inside the learning folder
ARMS = "arms"  # in a learning folder that several bundles share: the folder of each, by its bundle's name


@dataclass(frozen=True, slots=True)
class LearningLimits:
    """Limits on how much is learned from whom. Raises UsageError if one is out of range.

    Every rule depends on the log alone, never on the host's clock, so that all readers of a log agree; those by origin
    are decided on arrival, and the log has the verdicts. Open clicks are judged by the times at which they arrived,
    which a client cannot choose; trusted clicks and records without arrivals by their own. Trusted clicks are limited
    by `burst_clicks` and `new_items` alone. docs/learning-limits.md shows what the rules achieve.

    Attributes
    ----------
    session_gap : int, default 1_800_000
        Milliseconds without a click after which a session ends; the same id then starts a new one.
    session_clicks : int, default 200
        Clicks of one session that are learned; later ones are not.
    burst_clicks, burst_ms : int, default 30 and 10_000
        A session with more clicks than this within so many milliseconds is a bot: nothing more is learned from it, and
        what was learned from it is removed.
    fresh_visits : int, default 3
        Items that a session must click more of to count as long-run traffic.
    item_share, item_window, item_floor : float, int, int, default 0.3, 60_000 and 5
        Within a window of arrival, sessions that click an item are learned up to this share of all visits to items so
        far, or of those that the long-run traffic brings in a window, if that is more. A window lasts `item_window`
        milliseconds; with little traffic it is longer, until the traffic allows `item_floor` visits
        (`online.state.guards`).
    origin_items, origin_new : int, default 2 and 8
        Visits to an item, and items that nobody knows, that one origin of clicks may always bring in a day
        (`online.origin_guard`).
    pair_floor, pair_share : int, float, default 2 and 0.5
        Sessions with the same two items are learned up to the larger of the floor and this share of the sessions with
        the rarer one, in about a day of traffic. The floor is more in a large shop (`online.state.guards`).
    late : int, default 86_400_000
        Milliseconds before the newest event; older clicks whose arrival is not known are not learned, unless trusted.
    new_items : int, default 65_536
        Items that may enter the catalog before a compaction.
    new_share, new_floor : float, int, default 0.05 and 32
        Items that enter by one session in a window, as a share of the visits like `item_share`, and that always may.
    min_clicks : int, default 1
        Clicks that such an item needs before it is recommended.
    cold_start : int, default 1
        1: an item enters the catalog with its row of the item table, if the bundle was trained with a table and this
        row came later. 0: it waits for its first click.
    """

    session_gap: int = 1_800_000
    session_clicks: int = 200
    burst_clicks: int = BURST_CLICKS
    burst_ms: int = BURST_MS
    fresh_visits: int = 3
    item_floor: int = 5
    item_share: float = 0.3
    item_window: int = 60_000
    pair_floor: int = 2
    pair_share: float = 0.5
    origin_items: int = 2
    origin_new: int = 8
    late: int = 86_400_000
    new_items: int = 65_536
    new_share: float = 0.05
    new_floor: int = 32
    min_clicks: int = 1
    cold_start: int = 1

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name in ("item_share", "pair_share", "new_share"):
                is_valid = 0 < value <= 1
            else:
                is_valid = isinstance(value, int) and int(name not in _FROM_ZERO) <= value < 2**53
            if not is_valid:
                raise UsageError(f"learning limit {name}={value} is out of range; see LearningLimits")


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How a recommender learns. Raises UsageError if a setting is out of range.

    Attributes
    ----------
    folder : Path or str
        Holds the compacted bundle and, unless `stream` or `shared_folder` names another place, the log.
    shared_folder : Path, optional
        For one of several bundles that learn from one log (arms): the learning folder that they share. It holds the
        log, and the `folder` of each.
    other_arms : tuple of (Path, Path), default ()
        Trained bundle and `folder` of the other arms. What they have not compacted yet stays in the log. So does what
        arms need that are not named here and are served.
    stream : str, optional
        redis://host:port/db?stream=name: the log is a Redis stream that several hosts share.
    fsync : bool, default False
        Acknowledge an event after fsync; otherwise after write(2), with an fsync every 20 ms.
    retention_days : float, default 30
        Days after its last click that a learned session is kept, by the newest event; infinite: forever. The log has
        `max_log_bytes`.
    max_log_bytes : int, default 2 GiB
        Size of the log above which the oldest segments that are in the compacted bundle are deleted.
    max_backlog : int, default 5_000
        Events of the log that a service has not learned yet, above which it refuses more: about what it learns in
        half a second.
    compact : bool, default True
        Whether this process starts compactions by itself.
    compact_clicks : int, default 200_000
        Clicks in the delta that start one.
    compact_seconds : float, default 3600
        Seconds after which one starts, however few clicks there are.
    limits : LearningLimits
        Limits on what is learned from whom. All processes that share a folder must use the same ones.
    """

    folder: Path
    stream: str | None = None
    fsync: bool = False
    retention_days: float = 30.0
    max_log_bytes: int = 2 << 30
    max_backlog: int = 5_000
    compact: bool = True
    compact_clicks: int = 200_000
    compact_seconds: float = 3600.0
    limits: LearningLimits = field(default_factory=LearningLimits)
    shared_folder: Path | None = None
    other_arms: tuple[tuple[Path, Path], ...] = ()

    def __post_init__(self) -> None:
        for name in ("folder", "shared_folder"):
            value: Any = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
            elif not isinstance(value, Path) and (value is not None or name == "folder"):
                raise UsageError(f"learning setting {name}={value!r} is not a path; give the path of a folder")
        for name in ("retention_days", "max_log_bytes", "max_backlog", "compact_clicks", "compact_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"learning setting {name}={getattr(self, name)} must be positive")

    @property
    def retention_ms(self) -> int:
        """`retention_days` in milliseconds."""
        return int(min(self.retention_days * DAY_MS, _FOREVER_MS))

    @property
    def log_folder(self) -> Path:
        """The folder of the log, and of what is known about it: `shared_folder`, or without that `folder`."""
        return self.shared_folder or self.folder

    def absolute(self) -> Self:
        """Return settings that do not depend on the working folder."""
        arms = tuple((bundle.absolute(), folder.absolute()) for bundle, folder in self.other_arms)
        shared = None if self.shared_folder is None else self.shared_folder.absolute()
        return replace(self, folder=self.folder.absolute(), shared_folder=shared, other_arms=arms)

    def of_arms(self, bundles: Sequence[Path]) -> list[Self]:
        """Return the settings of each of several trained bundles that learn from the one log in `folder`.

        Raises UsageError if a folder's name cannot stand for the bundle.
        """
        names = [bundle.name for bundle in bundles]
        if len(set(names)) < len(names) or {"", ".."} & set(names):
            raise UsageError(
                f"bundles {', '.join(map(str, bundles))}: what each learns is kept under the name of its folder; give "
                "folders whose names differ"
            )
        pairs = [(bundle, self.folder / ARMS / bundle.name) for bundle in bundles]
        others = [tuple(pair for pair in pairs if pair[1] != folder) for _, folder in pairs]
        return [
            replace(self, folder=folder, shared_folder=self.folder, other_arms=arms)
            for (_, folder), arms in zip(pairs, others, strict=True)
        ]

    def of_one(self, bundle: Path) -> Self:
        """Return the settings of a bundle that learns alone: as an arm, if it is or was one in this folder.

        Those of an arm stay as they are.
        """
        bundle = bundle.absolute()
        if self.shared_folder is not None or bundle.name in ("", ".."):
            return self
        return self.of_arms([bundle])[0] if (self.folder / ARMS / bundle.name).is_dir() else self

    def arguments(self) -> list[str]:
        """Return the settings that a compactor needs, as arguments of its command line."""
        arguments = [
            "--learn", str(self.folder), "--retention-days", str(self.retention_days),
            "--max-log-bytes", str(self.max_log_bytes),
        ]  # fmt: skip
        if self.stream is not None:
            arguments += ["--stream", self.stream]
        if self.shared_folder is not None:
            arguments += ["--shared-folder", str(self.shared_folder)]
        for bundle, folder in self.other_arms:
            arguments += ["--other-arm", str(bundle), str(folder)]
        for name, value in asdict(self.limits).items():
            arguments += ["--learn-limit", f"{name}={value}"]
        return arguments


def limits_of(pairs: Iterable[str]) -> LearningLimits:
    """Return the limits of `name=value` pairs; the last value wins. Raises UsageError on a bad name or value."""
    values: dict[str, Any] = {}
    defaults = asdict(LearningLimits())
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in defaults:
            raise UsageError(f"there is no learning limit {name!r}; the limits are {', '.join(defaults)}")
        try:
            values[name] = type(defaults[name])(value)
        except ValueError:
            raise UsageError(f"learning limit {name}={value!r} must be {type(defaults[name]).__name__}") from None
    return LearningLimits(**values)
