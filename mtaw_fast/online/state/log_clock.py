"""What time it is, as far as the events of a log can tell. All times are Unix milliseconds."""

from __future__ import annotations

from collections.abc import Mapping

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import DAY_MS, LearningLimits

JUMP_MS = DAY_MS  # a step of the arrivals that is longer needs to be confirmed
_CONFIRMING_CLICKS, _CONFIRMING_MS = 64, 6 * 3_600_000  # confirm a jump, if both have passed since
_MAX_STEP = 3_600_000  # ms that one event can advance the clock: one from the year 2099 must not make others late
_LATE_IN_A_ROW = 64  # late events in excess of timely ones after which a clock itself must be wrong


class LogClock:
    """Follows the times of clicks and of their arrivals. It depends on the log alone, and a bundle stores its state.

    A host whose clock is wrong writes wrong arrivals. So a jump forward by more than `JUMP_MS` counts only when it is
    confirmed: by 64 more clicks over 6 hours, or by an operator. Until then its clicks count as of the last arrival
    before, and the jump is over when a click arrives at the time before it.

    now: of the newest click, by the clicks' own times. arrival: the newest arrival; 0 if no click had one. ahead: the
    first arrival after a jump that is not confirmed; 0: there is none.
    """

    def __init__(self, limits: LearningLimits, state: Mapping[str, int] | None = None) -> None:
        """state: as `state` returned it."""
        self._limits = limits
        self.now = self.arrival = self.ahead = 0
        self._newest = self._late = self._behind = self._clicks_ahead = 0
        if state:
            self.now, self.arrival, self.ahead = state["now"], state["arrival"], state["ahead"]
            self._newest, self._late, self._behind = state["newest"], state["late"], state["behind"]
            self._clicks_ahead = state["clicks_ahead"]

    def state(self) -> dict[str, int]:
        return {
            "now": self.now, "arrival": self.arrival, "ahead": self.ahead, "newest": self._newest, "late": self._late,
            "behind": self._behind, "clicks_ahead": self._clicks_ahead,
        }  # fmt: skip

    def believed_time(self, click: Click) -> int:
        """Return the time of a click as far as its sender is believed: an open click was made at most `session_gap`
        before it arrived."""
        if click.trusted or click.arrived is None:
            return click.time
        return max(click.time, click.arrived - self._limits.session_gap)

    def take(self, click: Click) -> bool:
        """Move to a click; return False if it is late. A trusted click is never late."""
        arrival, time = self.arrival, self.believed_time(click)
        if click.arrived is not None:
            self._arrive(click.arrived)
        if time < self.now - self._limits.late:
            if click.trusted:
                return True
            self._set_back(click, time)
            if time < self.now - self._limits.late:
                return False
        self._late = max(self._late - 1, 0)
        # By more than `_MAX_STEP` only if another click has arrived then.
        latest = max(arrival, (self.arrival if self.ahead else self.now) + _MAX_STEP)
        self.now = max(self.now, min(time, latest) if self.now else time)
        self._newest = max(self._newest, self.now)
        return True

    def learned_time(self, click: Click) -> int:
        """Return the time as of which a click is learned, after `take`."""
        return self.settled(self.believed_time(click))

    def settled(self, time: int) -> int:
        """Return the time as of which something at `time` counts, after `take`: not that of a jump that is not
        confirmed."""
        return min(time, max(self.now, self.arrival)) if self.ahead else time

    def jump(self, host_now: int) -> int:
        """Return by how many milliseconds arrivals jumped forward, if that is not confirmed; otherwise 0.

        host_now: the time of this host; if it is that before the jump, its clock is right again.
        """
        return self.ahead - self.arrival if self.ahead and host_now > self.arrival + JUMP_MS else 0

    def confirm(self, time: int) -> None:
        """Take an operator's word that it was `time` when the newest clicks arrived."""
        if self.ahead:
            self.arrival, self.ahead, self._clicks_ahead = max(self.arrival, time), 0, 0

    def _arrive(self, time: int) -> None:
        """Move `arrival`: forward, or back if some host's clock was ahead and is right again."""
        if time < self.arrival - self._limits.session_gap:
            self._behind += 1
            if self._behind >= _LATE_IN_A_ROW:
                self.arrival, self._behind, self.ahead = time, 0, 0
            return
        self._behind = max(self._behind - 1, 0)
        if not self.arrival or time <= self.arrival + JUMP_MS:
            self.arrival, self.ahead = max(self.arrival, time), 0
            return
        if not self.ahead:
            self.ahead, self._clicks_ahead = time, 0
        self._clicks_ahead += 1
        if self._clicks_ahead > _CONFIRMING_CLICKS and time >= self.ahead + _CONFIRMING_MS:
            self.arrival, self.ahead = time, 0

    def _set_back(self, click: Click, time: int) -> None:
        """Count a late click; after many, the clock must have been ahead: set it back to the click's arrival, which no
        client chooses. Without arrivals by `session_gap` at most, which has no end in a log file."""
        self._late += 1
        if self._late < _LATE_IN_A_ROW:
            return
        self._late = 0
        if click.arrived is None:
            self.now = min(self.now, max(time, self._newest - self._limits.session_gap))
        elif click.arrived < self.now:
            self.now = self._newest = click.arrived
