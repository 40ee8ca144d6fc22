"""What keeps single visitors, bots and floods from steering everybody's rankings: stated rules, counted refusals.

All rules look at the log alone, never at this machine's clock, so that every reader of a log decides alike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mtaw_fast.errors import UsageError


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


class FloodGuard:
    """The rule of `item_share`: counts the fresh clicks of a window, item by item."""

    def __init__(self, limits: LearningLimits) -> None:
        self._limits = limits
        self._window = -1
        self._all = 0
        self._items: Counter[int | str] = Counter()

    def admits(self, item: int | str, clock: int) -> bool:
        """Whether a fresh click on `item` is learned; it is counted either way.

        clock: the tracker's, not the click's own time: one click from the year 2099 must not hold a window open till then.
        """
        limits = self._limits
        window = clock // limits.item_window
        if window != self._window:
            self._window, self._all = window, 0
            self._items.clear()
        self._all += 1
        self._items[item] += 1
        return self._items[item] <= max(limits.item_floor, limits.item_share * self._all)
