"""What time it is by a log: a host whose clock is wrong ages nothing, and a shop that was closed works on."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import DAY_MS, LearningLimits
from mtaw_fast.online.state.log_clock import LogClock

NOON = 1_764_150_000_000
HOUR = 3_600_000
LATER = NOON + 40 * DAY_MS


def clock_after(times: Iterable[int], clock: LogClock | None = None) -> LogClock:
    """Return a clock after clicks that arrive at their own times."""
    clock = clock or LogClock(LearningLimits())
    for time in times:
        clock.take(Click("s", 1, time, arrived=time))
    return clock


def test_a_clock_that_jumps_ahead_and_returns_moves_nothing() -> None:
    clock = clock_after([NOON, LATER, LATER + 1])
    assert (clock.now, clock.arrival) == (NOON + HOUR, NOON)
    assert clock.jump(LATER + 2) == 40 * DAY_MS
    assert clock.jump(NOON + HOUR) == 0, "the host's own clock is right again"
    ahead = Click("s", 1, LATER + 2, arrived=LATER + 2)
    assert clock.take(ahead)
    assert clock.learned_time(ahead) == NOON + HOUR, "no click is learned as of a time that may be wrong"
    honest = Click("s", 1, NOON + 1, arrived=NOON + 1)
    assert clock.take(honest)
    assert (clock.arrival, clock.jump(LATER), clock.learned_time(honest)) == (NOON + 1, 0, NOON + 1)


def test_a_shop_that_was_closed_goes_on_after_64_more_clicks_over_6_hours() -> None:
    clock = clock_after([NOON, *(LATER + place * HOUR // 60 for place in range(360))])
    assert clock.jump(LATER + 6 * HOUR) == 40 * DAY_MS
    assert clock_after([LATER + 6 * HOUR], clock).jump(LATER + 6 * HOUR) == 0
    assert clock_after([LATER + 6 * HOUR + 1], clock).now == LATER + 6 * HOUR
    few = clock_after([NOON, *(LATER + place * HOUR // 4 for place in range(64))])
    assert few.jump(LATER + 16 * HOUR) > 0
    assert clock_after([LATER + 16 * HOUR], few).jump(LATER + 16 * HOUR) == 0


def test_an_operator_confirms_a_jump_and_a_night_is_none() -> None:
    clock = clock_after([NOON, LATER])
    clock.confirm(LATER + 5)
    assert (clock.arrival, clock.jump(LATER + 6)) == (LATER + 5, 0)
    assert clock_after([LATER + 6], clock).now == LATER + 5
    night = clock_after([NOON, NOON + DAY_MS])
    assert (night.arrival, night.jump(NOON + DAY_MS)) == (NOON + DAY_MS, 0)


@pytest.mark.parametrize("cut", [1, 2, 40, 64, 100])
def test_a_stored_clock_goes_on(cut: int) -> None:
    times = [NOON, *(LATER + place * HOUR // 10 for place in range(80)), *(NOON + place for place in range(70))]
    whole, part = clock_after(times), clock_after(times[:cut])
    assert clock_after(times[cut:], LogClock(LearningLimits(), part.state())).state() == whole.state()
