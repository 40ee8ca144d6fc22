"""What one origin may teach in a day, whatever it sends, and what it keeps of an address: nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.origin_guard import SIZE, OriginGuard
from mtaw_fast.online.settings import DAY_MS, LearningLimits

NOON = 1_764_150_000_000
MINUTE = 60_000
EVENING = NOON + DAY_MS - 60 * MINUTE  # of a window that begins at noon
LIMITS = LearningLimits()
SHARES = {"hit": 0.02, "usual": 0.001, "tail": 0.00001}


def new_guard() -> OriginGuard:
    """Return a guard with a fixed key: no visit meets another's cells in these tests by chance."""
    return OriginGuard(LIMITS, memoryview(bytearray(b"another key".ljust(SIZE, b"\0"))))


def usual(items: Sequence[int | str]) -> tuple[list[float], float]:
    return [SHARES.get(str(item), -1.0 if str(item).startswith("new") else 0.0001) for item in items], 10_000.0


def verdicts(guard: OriginGuard, address: str, clicks: Sequence[Click], now: int = NOON) -> list[str | None]:
    return [click.refused for click in guard.judged(guard.origin_of(address), clicks, usual, now)]


def learned(guard: OriginGuard, address: str, item: str, sessions: range, now: int = NOON) -> int:
    return verdicts(guard, address, [Click(f"s{n}", item, now) for n in sessions], now).count(None)


def test_an_origin_brings_an_item_twice_a_day_and_what_others_visit_in_proportion() -> None:
    guard = new_guard()
    assert learned(guard, "10.0.0.1", "tail", range(1000)) == LIMITS.origin_items
    assert learned(guard, "10.0.0.2", "tail", range(1000, 2000)) == LIMITS.origin_items, "another origin"
    assert learned(guard, "10.0.0.1", "tail", range(2000, 3000), NOON + DAY_MS - 1) == 0
    assert learned(guard, "10.0.0.1", "tail", range(3000, 4000), NOON + DAY_MS) == LIMITS.origin_items, "the next day"
    office = new_guard()
    for visitor in range(100):
        assert verdicts(office, "10.0.0.9", [Click(f"v{visitor}", f"sku-{visitor}", NOON)]) == [None]
    assert learned(office, "10.0.0.9", "hit", range(1000), EVENING) == 8, "four times its share of a hundred visits"
    assert learned(office, "10.0.0.9", "usual", range(1000, 2000), EVENING) == LIMITS.origin_items


def test_however_much_it_sends_an_origin_counts_as_a_tenth_of_the_shop() -> None:
    guard = new_guard()
    for session in range(5_000):
        verdicts(guard, "10.0.0.1", [Click(f"f{session}", f"sku-{session}", NOON)])
    assert learned(guard, "10.0.0.1", "usual", range(1000)) == LIMITS.origin_items, "of what an hour brings"
    assert learned(guard, "10.0.0.1", "usual", range(1000, 2000), EVENING) == 4 * 0.001 * 10_000 / 10 - 2


def test_a_session_may_click_an_item_again_but_a_later_visit_counts() -> None:
    guard = new_guard()
    assert verdicts(guard, "10.0.0.1", [Click("s", "tail", NOON)] * 50) == [None] * 50
    assert learned(guard, "10.0.0.1", "tail", range(9)) == LIMITS.origin_items - 1
    apart = new_guard()
    visits = [
        verdicts(apart, "10.0.0.1", [Click("s", "tail", NOON + n * 31 * MINUTE)], NOON + n * 31 * MINUTE)
        for n in range(20)
    ]
    assert visits.count([None]) == LIMITS.origin_items, "one id, every 31 minutes"


def test_no_time_lets_sessions_pass_that_were_not_there() -> None:
    guard = new_guard()
    for turn in range(256):
        now = NOON + turn * LIMITS.session_gap // 3
        assert learned(guard, "10.0.0.1", f"tail-{turn}", range(5), now) == LIMITS.origin_items, turn


def test_new_items_of_an_origin_are_bounded_and_those_of_others_are_not() -> None:
    guard = new_guard()
    invented = [Click(f"s{n}", f"new-{n}", NOON) for n in range(1000)]
    assert verdicts(guard, "10.0.0.1", invented) == [None] * LIMITS.origin_new + ["origin_new"] * (
        1000 - LIMITS.origin_new
    )
    assert verdicts(guard, "10.0.0.2", [Click("v", "new-item", NOON)]) == [None]
    proxy = new_guard()
    for session in range(5_000):
        verdicts(proxy, "10.0.0.1", [Click(f"f{session}", f"sku-{session}", NOON)])
    assert learned(proxy, "10.0.0.1", "hit", range(1)) == 1
    assert verdicts(proxy, "10.0.0.1", invented, EVENING).count(None) == 50, "a hundredth of its visits"


def test_what_is_refused_uses_up_nothing() -> None:
    guard = new_guard()
    learned(guard, "10.0.0.1", "tail", range(1000))
    verdicts(guard, "10.0.0.1", [Click(f"s{n}", f"new-{n}", NOON) for n in range(1000)])
    before = guard._counted(1, [0, 0]), guard._header[2]
    learned(guard, "10.0.0.1", "tail", range(1000, 3000))
    assert (guard._counted(1, [0, 0]), guard._header[2]) == before
    assert guard._header[2] == LIMITS.origin_items + LIMITS.origin_new


def test_processes_that_share_the_memory_count_together_and_the_memory_holds_no_address() -> None:
    memory = memoryview(bytearray(SIZE))
    OriginGuard.prepare(memory)
    first, second = OriginGuard(LIMITS, memory), OriginGuard(LIMITS, memory)
    assert learned(first, "203.0.113.77", "tail", range(1)) == 1
    assert learned(second, "203.0.113.77", "tail", range(1, 100)) == LIMITS.origin_items - 1
    assert first.busiest() == second.busiest() == (100, 100)
    assert verdicts(first, "203.0.113.78", [Click("v", "hit", NOON)]) == [None]
    assert second.busiest() == (100, 101)
    assert bytes([203, 0, 113, 77]) not in bytes(memory)
    assert b"203.0.113.77" not in bytes(memory)
    assert first.origin_of("203.0.113.77") != OriginGuard(LIMITS).origin_of("203.0.113.77"), "the key is of one start"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:ff::9", True), ("2001:db8:0:100::1", "2001:db8:0:200::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True), ("10.0.0.1", "10.0.0.2", False), ("shop", "shop", True),
        ("", "shop", False),
    ],
)  # fmt: skip
def test_what_counts_as_one_origin(one: str, other: str, same: bool) -> None:
    guard = new_guard()
    assert (guard.origin_of(one) == guard.origin_of(other)) == same


def test_a_window_ends_before_its_counts_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtaw_fast.online.origin_guard._MAX_VISITS", 100)
    guard = new_guard()
    assert learned(guard, "10.0.0.1", "tail", range(9)) == LIMITS.origin_items
    for session in range(100):
        verdicts(guard, "10.0.0.1", [Click(f"f{session}", f"sku-{session}", NOON)])
    assert learned(guard, "10.0.0.1", "tail", range(9, 20)) == LIMITS.origin_items
