"""Sessions, duplicates, late events, bots and floods: what is learned from whom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.log_clock import LogClock
from mtaw_fast.online.state.session_tracker import SessionTracker

HOUR = 3_600_000
NOON = 1_764_150_000_000


def arriving(click: Click) -> Click:
    """Return a click that arrives at its own time."""
    return click._replace(arrived=click.time)


class Admitted(NamedTuple):
    """All batches of some clicks as one."""

    handles: list[int]
    items: list[int | str]
    times: list[int]
    forgotten: list[int]


def admitted(tracker: SessionTracker, clicks: Iterable[Click]) -> Admitted:
    batches = list(tracker.batches(clicks))
    learned = [(handle, click) for batch in batches for handle, click in zip(batch.handles, batch.clicks, strict=True)]
    return Admitted(
        [handle for handle, _ in learned],
        [click.item for _, click in learned],
        [click.time for _, click in learned],
        [handle for batch in batches for handle in batch.forgotten],
    )


def taken(*clicks: Click, **limits: Any) -> tuple[Admitted, SessionTracker]:
    tracker = SessionTracker(LearningLimits(**limits))
    return admitted(tracker, clicks), tracker


def test_a_session_goes_on_until_it_was_idle_for_the_gap() -> None:
    times = [0, 900, 1900, 2901, 2950]
    batch, tracker = taken(*(Click("s", n, NOON + time) for n, time in enumerate(times)), session_gap=1000)
    assert batch.handles == [0, 0, 0, 1, 1]
    assert batch.items == [0, 1, 2, 3, 4]
    assert tracker.n_sessions == 2
    assert tracker.forget("s") == [0, 1]
    assert tracker.forget("s") == []
    assert admitted(tracker, [Click("s", 9, NOON + 2960)]).handles == [2], "a forgotten session continued"


def test_an_event_that_comes_twice_counts_once() -> None:
    once, plain = Click("s", 1, NOON, id="e"), Click("s", 2, NOON)
    batch, tracker = taken(once, plain, once, plain)
    assert batch.items == [1, 2, 2]
    assert tracker.refused == {"duplicate": 1}
    after = SessionTracker(LearningLimits(), seen=tracker.seen().tolist())
    assert admitted(after, [once]).items == []


def test_an_event_id_of_one_session_silences_no_other_session() -> None:
    guesses = [Click("attacker", 1, NOON, id=f"order-{n}") for n in range(20)]
    honest = [Click(f"visitor-{n}", 2, NOON, id=f"order-{n}") for n in range(20)]
    batch, tracker = taken(*guesses, *honest, item_floor=50)
    assert batch.items == [1] * 20 + [2] * 20
    assert tracker.refused == {}
    batch, _ = taken(Click("a", 1, NOON, id="bc"), Click("ab", 2, NOON, id="c"))
    assert batch.items == [1, 2], "two pairs of ids that join to one text are two events"


def test_late_events_are_learned_up_to_the_bound_and_one_from_the_future_makes_no_other_late() -> None:
    batch, tracker = taken(Click("a", 1, NOON), Click("b", 2, NOON - HOUR), Click("c", 3, NOON - HOUR - 1), late=HOUR)
    assert batch.times == [NOON, NOON - HOUR]
    assert tracker.refused == {"late": 1}
    future = Click("b", 2, NOON + 10_000 * HOUR)
    batch, tracker = taken(Click("a", 1, NOON), future, Click("c", 3, NOON + 1), late=2 * HOUR)
    assert batch.items == [1, 2, 3]
    assert tracker.clock.now == NOON + HOUR


def test_a_long_silence_does_not_hold_the_clock_back() -> None:
    later = NOON + 48 * HOUR
    _, tracker = taken(Click("a", 1, NOON), *(Click("b", 1, later + n) for n in range(48)))
    assert later <= tracker.clock.now <= later + 48


def test_a_clock_that_was_ahead_and_is_right_again_does_not_end_the_learning() -> None:
    ahead = [arriving(Click(f"a{n}", n, NOON + 1000 * HOUR + n)) for n in range(2000)]
    right = [arriving(Click(f"b{n}", n, NOON + n)) for n in range(200)]
    batch, tracker = taken(Click("x", 1, NOON), *ahead, *right)
    assert tracker.refused == {"late": 63}
    assert tracker.clock.arrival == tracker.clock.now == right[-1].time
    assert batch.times[-137:] == [click.time for click in right[63:]]
    # A few late events among others stay late: the clock is right.
    mixed = [Click(f"c{n}", 1, NOON if n % 3 == 0 else NOON + 500 * HOUR) for n in range(900)]
    _, tracker = taken(Click("x", 1, NOON + 500 * HOUR), *mixed, item_floor=1000)
    assert tracker.refused == {"late": 300}


@pytest.mark.parametrize("old", [NOON - 9000 * HOUR, NOON // 1000], ids=["a year ago", "seconds"])
def test_old_times_set_no_clock_back(old: int) -> None:
    """An open click is learned as of its arrival and the session gap before it, a trusted one as of its time."""
    events = [Click(f"a{n}", n, old + n, arrived=NOON + n) for n in range(500)]
    batch, tracker = taken(arriving(Click("x", 1, NOON)), *events)
    assert tracker.refused == {}
    assert tracker.clock.now == NOON
    assert set(batch.times) == {NOON, *(NOON - HOUR // 2 + n for n in range(500))}
    batch, tracker = taken(arriving(Click("x", 1, NOON)), *(event._replace(trusted=True) for event in events))
    assert (tracker.refused, tracker.clock.now) == ({}, NOON)
    assert batch.times[1:] == [old + n for n in range(500)]
    # Without arrivals, by the session gap at most.
    _, tracker = taken(Click("x", 1, NOON), *(Click(f"a{n}", n, old + n) for n in range(5000)), late=1000)
    assert tracker.clock.now == NOON - LearningLimits().session_gap
    # In a log file there is no gap, and the clock follows the file.
    batch, _ = taken(Click("x", 1, NOON), *(Click(f"a{n}", n, old + n) for n in range(500)), session_gap=2**52)
    assert len(batch.items) == 1 + 500 - 63


def test_visits_of_one_id_are_cut_by_arrival_unless_its_times_are_trusted() -> None:
    times = [NOON - (n % 2) * 31 * 60_000 for n in range(20)]
    clicks = [Click("s", n, time, arrived=NOON + n) for n, time in enumerate(times)]
    batch, _ = taken(*clicks)
    assert set(batch.handles) == {0}, "one visit, whatever it says of time"
    batch, _ = taken(*(click._replace(trusted=True) for click in clicks))
    assert len(set(batch.handles)) == 20
    batch, _ = taken(*(click._replace(time=NOON, arrived=NOON + n * 31 * 60_000) for n, click in enumerate(clicks)))
    assert len(set(batch.handles)) == 20


def test_a_burst_is_one_by_arrival_or_by_trusted_times() -> None:
    spread = [Click("bot", n, NOON - n * 60_000, arrived=NOON + n) for n in range(25)]
    batch, _ = taken(*spread, burst_clicks=20)
    assert len(batch.forgotten) == 1, "times a minute apart hide a burst"
    batch, tracker = taken(*(click._replace(trusted=True) for click in spread), burst_clicks=20, session_clicks=5)
    assert (len(batch.items), tracker.refused) == (25, {}), "a trusted session is never full"
    batch, _ = taken(*(click._replace(time=NOON + n, trusted=True) for n, click in enumerate(spread)), burst_clicks=20)
    assert len(batch.forgotten) == 1


def test_a_click_that_was_refused_on_arrival_is_counted_and_nothing_else() -> None:
    refused = [Click("s", n, NOON + n, id="e", arrived=NOON + n, refused="origin") for n in range(40)]
    batch, tracker = taken(*refused, Click("s", 1, NOON + 100, id="e", arrived=NOON + 100))
    assert (batch.items, tracker.refused) == ([1], {"origin": 40})
    assert (tracker.n_sessions, tracker.last_refused[-1]) == (1, ("origin", 39, NOON + 39))
    _, untouched = taken(*refused)
    assert untouched.clock.state() == LogClock(LearningLimits()).state()
    assert len(untouched.seen()) == 0


def test_the_clock_leaves_old_times_with_the_second_click_of_now() -> None:
    old = [Click(f"s{n}", n, n, arrived=NOON) for n in range(10)]
    _, tracker = taken(*old, *(arriving(Click(f"t{n}", n, NOON + n)) for n in range(2)))
    assert tracker.clock.now == NOON + 1


def test_a_bot_is_forgotten_and_never_learned_again() -> None:
    slow = [Click("m", n, NOON + 5_000 * n) for n in range(4)]
    fast = [Click("m", 10 + n, NOON + 20_000 + n) for n in range(8)]
    batch, tracker = taken(*slow, *fast, Click("v", 1, NOON + 30_000), burst_clicks=5, burst_ms=10_000)
    assert batch.forgotten == [0]
    assert batch.handles[-1] == 1, "another visitor is not affected"
    assert tracker.refused["bot"] + len(batch.items) == 13
    batch, _ = taken(*(Click("s", n, NOON) for n in range(30)))
    assert (len(batch.items), batch.forgotten) == (30, []), "as many clicks as the burst allows"


def resumed(tracker: SessionTracker, **limits: Any) -> SessionTracker:
    """Return a tracker that goes on where another one was, as of a bundle."""
    bounds = LearningLimits(**limits)
    after = SessionTracker(bounds, LogClock(bounds, tracker.clock.state()), tracker.seen().tolist())
    after.resume(tracker.open_sessions())
    return after


def test_a_bot_is_recognized_when_it_is_resumed() -> None:
    _, tracker = taken(*(Click("m", n, NOON + n) for n in range(40)), Click("s", 1, NOON))
    after = resumed(tracker)
    assert after.open_sessions() == tracker.open_sessions()
    assert admitted(after, [Click("m", 1, NOON + 60), Click("s", 2, NOON + 60)]).items == [2]
    assert admitted(after, [Click("m", 1, NOON + 2 * HOUR)]).items == [1], "another session, since the bot was idle"
    after = resumed(tracker)
    after.forget("m")
    assert list(after.open_sessions()) == ["s"]


def test_a_resumed_session_is_a_bot_by_arrivals_whatever_times_it_claims() -> None:
    """A minute apart by its own times, a tenth of a second by arrivals, half of them before a bundle."""
    limits = {"burst_clicks": 9, "burst_ms": 10_000}
    clicks = [Click("m", n, NOON + 60_000 * n, arrived=NOON + HOUR + 100 * n) for n in range(12)]
    _, tracker = taken(*clicks[:6], Click("s", 1, NOON, arrived=NOON), **limits)
    after = resumed(tracker, **limits)
    for session_tracker in (tracker, after):
        assert admitted(session_tracker, clicks[6:]).items == [6, 7, 8]
        assert session_tracker.refused["bot"] == 3


def test_a_session_is_full_after_its_clicks_also_when_it_is_resumed() -> None:
    clicks = [Click("s", n, NOON + n * HOUR // 4) for n in range(12)]
    batch, tracker = taken(*clicks, session_clicks=5)
    assert batch.items == [0, 1, 2, 3, 4]
    assert tracker.refused == {"session_full": 7}
    next_click = Click("s", 12, NOON + 3 * HOUR)
    assert admitted(resumed(tracker, session_clicks=5), [next_click]).items == []
    _, tracker = taken(*clicks)
    assert admitted(resumed(tracker), [next_click]).handles == [0], "a session of hours is resumed as one"


def test_what_the_training_knew_counts_as_seen_from_its_place_in_the_log_on() -> None:
    known = Click("v", 1, 1000, id="e-2")
    tracker = SessionTracker(LearningLimits(), since=NOON)
    assert admitted(tracker, [known._replace(time=NOON + 1), known, known._replace(time=NOON + 2)]).times == [NOON + 1]
    assert tracker.refused == {"trained": 1, "duplicate": 1}
    tracker = SessionTracker(LearningLimits(), since=NOON)
    assert admitted(tracker, [known, known._replace(time=NOON + 1)]).times == []


def test_a_session_without_a_click_for_the_gap_stays_closed_whatever_times_come() -> None:
    """So a compaction may merge it: a late click with its id is another session for every reader."""
    clicks = [Click("s", 1, NOON), Click("t", 2, NOON + 1001), Click("s", 3, NOON + 1)]
    batch, _ = taken(*clicks, session_gap=1000)
    assert batch.handles == [0, 1, 2]
    late = [Click("t", 1, NOON), *(Click("s", n, NOON - HOUR + n) for n in range(3))]
    assert taken(*late, session_gap=1000)[0].handles == [0, 1, 1, 1], "a session of old times is one too"


@pytest.mark.parametrize("wrong", [{"session_gap": 0}, {"item_share": 0.0}, {"item_share": 1.5}, {"new_items": -1}])
def test_limits_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"learning limit {next(iter(wrong))}="):
        LearningLimits(**wrong)
