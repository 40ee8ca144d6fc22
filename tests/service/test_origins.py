"""What the workers of a host share of open clicks: counts by origin, the last refusals, and one warning a day."""

from __future__ import annotations

import logging
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import DAY_MS, LearningSettings
from mtaw_fast.service.observability.service_log import JsonLines
from mtaw_fast.service.origins import LAST_REFUSALS, Origins
from mtaw_fast.service.resources import SharedMemory
from mtaw_fast.service.settings import Settings

NOW = 1_764_150_000_000
RARE = 2  # visits of one origin to an item that nobody else visits


@pytest.fixture
def memory() -> SharedMemory:
    return Origins.make(2)


@pytest.fixture
def workers(memory: SharedMemory) -> list[Origins]:
    settings = Settings(Path(), workers=2, learn=LearningSettings(Path("learned")))
    return [Origins(memory, settings, row) for row in range(2)]


def rare(items: Sequence[int | str]) -> tuple[list[float], float]:
    return [0.0] * len(items), 1000.0


def scope(address: str) -> dict[str, Any]:
    return {"client": (address, 4711), "headers": []}


def visits(origins: Origins, name: str, count: int, address: str, item: int | str = "sku-1", now: int = NOW) -> int:
    """Send a click of `count` sessions; return how many are not refused."""
    clicks = [Click(f"{name}-{number}", item, now) for number in range(count)]
    judged = origins.judged(scope(address), clicks, rare, now)
    assert [(click.session, click.item) for click in judged] == [(click.session, click.item) for click in clicks]
    return sum(click.refused is None for click in judged)


def test_the_workers_of_a_host_count_an_origin_together(workers: list[Origins]) -> None:
    first, second = workers
    assert visits(first, "a", 1, "192.0.2.1") == 1
    assert visits(second, "b", 5, "192.0.2.1") == RARE - 1
    assert visits(first, "c", 5, "192.0.2.1") == 0
    assert visits(first, "d", 5, "192.0.2.2") == RARE


def test_every_worker_lists_the_last_refusals_of_all_newest_first(workers: list[Origins]) -> None:
    visits(workers[0], "a", RARE + 1, "192.0.2.1", "sku-1")
    visits(workers[1], "b", RARE + 1, "192.0.2.2", 42, NOW + 7)
    listed = [worker.refusals() for worker in workers]
    assert listed[0] == listed[1]
    newest, oldest = listed[0]
    assert (newest.rule, newest.item, newest.time, newest.cut) == ("origin", 42, NOW + 7, False)
    assert (oldest.rule, oldest.item, oldest.time, oldest.cut) == ("origin", "sku-1", NOW, False)
    assert newest.origin != oldest.origin
    assert all(refusal.origin and len(bytes.fromhex(refusal.origin)) == 8 for refusal in listed[0])


def test_new_items_have_a_rule_of_their_own(workers: list[Origins]) -> None:
    clicks = [Click(f"s-{number}", f"made-up-{number}", NOW) for number in range(2000)]
    workers[0].judged(scope("192.0.2.1"), clicks, lambda items: ([-1.0] * len(items), 1000.0), NOW)
    assert {refusal.rule for refusal in workers[1].refusals()} == {"origin_new"}


def test_a_long_list_keeps_the_newest_refusals(workers: list[Origins]) -> None:
    for step in range(3):
        visits(workers[step % 2], f"a{step}-", LAST_REFUSALS, "192.0.2.1", f"sku-{step}", NOW + step)
    refusals = workers[0].refusals()
    assert len(refusals) == LAST_REFUSALS
    assert [refusal.item for refusal in refusals[: LAST_REFUSALS - RARE]] == ["sku-2"] * (LAST_REFUSALS - RARE)


@pytest.mark.parametrize("item", ["x" * 512, "日" * 200, "\N{SNOWMAN}" * 512, -(2**63), "\ud800"])
def test_an_item_is_listed_as_it_is_or_cut_and_marked(workers: list[Origins], item: int | str) -> None:
    visits(workers[0], "a", RARE + 1, "192.0.2.1", item)
    (refusal,) = workers[1].refusals()
    if isinstance(item, int):
        assert (refusal.item, refusal.cut) == (item, False)
    elif len(item) > 1:
        assert isinstance(refusal.item, str)
        assert item.startswith(refusal.item)
        assert len(refusal.item.encode()) >= 228
        assert refusal.cut


def test_a_record_that_is_being_written_is_skipped(workers: list[Origins], memory: SharedMemory) -> None:
    visits(workers[0], "a", RARE + 2, "192.0.2.1", "torn")
    assert len(workers[1].refusals()) == 2
    with mmap.mmap(memory.descriptor, 0) as mapped:
        at = mapped.find(b"torn")
        mapped[at : at + 4] = b"TORN"
    assert [refusal.item for refusal in workers[1].refusals()] == ["torn"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == "one_origin"]


def test_one_origin_that_sends_most_clicks_is_warned_of_once_a_day(
    workers: list[Origins], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mtaw_fast.service")
    visits(workers[0], "a", 30, "192.0.2.1")
    visits(workers[1], "b", 19, "192.0.2.1", "sku-2")
    assert not warnings(caplog), "49 clicks are few"
    assert workers[0].busiest_share() is None
    visits(workers[0], "c", 1, "192.0.2.2")
    assert workers[1].busiest_share() == pytest.approx(0.98)
    for step in range(4):
        visits(workers[step % 2], f"d{step}-", 60, "192.0.2.1")
    (record,) = warnings(caplog)
    line = JsonLines().format(record)
    assert "--proxy" in line
    assert "--events-token-file" in line
    assert "192.0.2" not in line
    visits(workers[1], "e", 60, "192.0.2.1", now=NOW + DAY_MS)
    assert len(warnings(caplog)) == 2


def test_clicks_from_many_origins_warn_of_none(workers: list[Origins], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mtaw_fast.service")
    for client in range(100):
        visits(workers[client % 2], f"s{client}-", 2, f"192.0.2.{client}", f"sku-{client % 9}")
    assert workers[0].busiest_share() == pytest.approx(0.01)
    assert not warnings(caplog)


def test_the_memory_holds_no_address(workers: list[Origins], memory: SharedMemory) -> None:
    visits(workers[0], "a", 9, "192.0.2.1")
    visits(workers[0], "b", 9, "2001:db8::1")
    with mmap.mmap(memory.descriptor, 0) as mapped:
        for form in (b"192.0.2.1", b"2001:db8", bytes([192, 0, 2, 1]), bytes.fromhex("20010db8000000")):
            assert mapped.find(form) == -1


def test_the_hashes_of_two_services_differ(workers: list[Origins]) -> None:
    settings = Settings(Path(), learn=LearningSettings(Path("learned")))
    other = Origins(Origins.make(1), settings)
    for origins in (workers[0], other):
        visits(origins, "a", RARE + 1, "192.0.2.1")
    assert workers[0].refusals()[0].origin != other.refusals()[0].origin
