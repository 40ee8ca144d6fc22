"""The event log in a Redis stream: several folders learn from one, and learning resumes after an outage."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import LearnError, UsageError
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log import redis_log, segment
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.log.redis_log import RedisLog
from mtaw_fast.online.settings import COMPACTED, LearningLimits, LearningSettings
from tests.simulation.redis_stream import RedisStream
from tests.support.online.recommenders import MODEL, NOON, N, answers, drawn, until_learned
from tests.support.redis_server import Redis
from tests.support.redis_server import redis as redis
from tests.support.service.running import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A running Redis, in which every test of this file has its own stream."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    pytest.importorskip("redis", reason="needs the extra 'serve'")
    redis = Redis(tmp_path_factory.mktemp("redis"))
    yield redis
    redis.stop()


@pytest.fixture
def url(server: Redis, request: pytest.FixtureRequest) -> str:
    """The URL of an empty stream."""
    return f"{server.url}?stream={request.node.name}"


@pytest.fixture
def log(url: str) -> Iterator[RedisLog]:
    event_log = RedisLog(url)
    yield event_log
    event_log.close()


def clicks(count: int, session: str = "s") -> list[Event]:
    return [Click(f"{session}{i}", f"sku-{i % N}", NOON + i, id=f"{session}-{i}") for i in range(count)]


def test_the_lag_is_the_number_of_events_that_are_not_read(log: RedisLog, url: str) -> None:
    assert (log.lag(START), log.end()) == (0, START)
    log.append(clicks(30))
    assert log.lag(START) == 30
    middle = log.read(START, 10)[-1].position
    assert log.lag(middle) == 20
    end = log.read(middle)[-1].position
    assert log.lag(end) == 0
    assert log.append(clicks(5)) == log.end()
    assert log.lag(end) == 5
    end = log.read(end)[-1].position
    for max_bytes in (1 << 30, 1):  # whatever is left of the stream, nothing in it is news to another log
        log.expire(end, max_bytes)
        other = RedisLog(url)
        assert other.read(end) == []
        assert other.lag(end) == log.lag(end) == 0
        other.close()


def test_what_a_stream_holds_at_the_start_of_a_process_is_no_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("redis", reason="needs the extra 'serve'")
    world: Any = SimpleNamespace(ms=NOON, call=lambda *_, **__: None, after=lambda _: None)
    stream = RedisStream(world)
    monkeypatch.setattr("mtaw_fast.system.host.connect", lambda *_, **options: stream)
    monkeypatch.setattr(redis_log, "_LENGTHS", {})
    end = RedisLog("redis://localhost").append(clicks(30))
    redis_log._LENGTHS.clear()
    log = RedisLog("redis://localhost")
    assert log.read(end) == []
    log.append(clicks(2))
    assert log.lag(end) == 2


def test_a_reader_further_on_takes_no_event_from_another_thread(log: RedisLog) -> None:
    middle = log.append(clicks(10))
    assert log.read(middle) == []
    end = log.append(clicks(5, "later"))

    class Overtaken(tuple[str, ...]):
        def __getitem__(self, place: Any) -> Any:
            log._empty = (end, end)  # as by a thread that comes between
            return super().__getitem__(place)

    log._empty = Overtaken(log._empty)  # type: ignore[assignment]
    assert len(log.read(middle)) == 5


def test_positions_sort_as_they_come(log: RedisLog) -> None:
    # More than ten entries in a millisecond: as plain text, entry 10 would come before entry 9.
    end = log.append(clicks(2_000))
    positions = [entry.position for entry in log.read(START)]
    assert positions == sorted(positions)
    assert positions[-1] == end
    assert len({position.partition("-")[0] for position in positions}) < len(positions) / 10
    assert [entry.position for entry in log.read(positions[10], 5)] == positions[11:16]


def test_damage_is_skipped_and_logged_once_whatever_the_number_of_reads(
    log: RedisLog, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    before, after = clicks(2)
    position, name = log.append([before]), request.node.name
    for value in (b"\xff", b"{", b"[]", b'{"session": "s", "time": 5}', b'{"session": 5, "item": 5, "time": 5}'):
        log._redis.xadd(name, {"e": value})
    for _ in range(3):
        assert log.read(position) == []
    assert [entry.event for entry in log.read(START)] == [before]
    assert (log.damaged, len(caplog.messages)) == (5, 5)
    assert caplog.messages[0].startswith(f"stream {name}, entry ")
    log._redis.xadd(name, {"other": "field"})
    log.append([after])
    assert [entry.event for entry in log.read(position)] == [after]
    assert (log.damaged, len(caplog.messages)) == (6, 6)


def test_compacted_events_expire_if_the_stream_is_too_large(log: RedisLog) -> None:
    events = clicks(600)
    middle = log.append(events[:300])
    log.append(events[300:])
    assert log.expire(middle, 1 << 30) == 0
    assert log.expire(middle, 1000) >= 299
    remaining = [entry.event for entry in log.read(START)]
    assert remaining[-300:] == events[300:], "events that are not compacted have expired"


def test_two_hosts_share_a_stream(folder: Path, tmp_path: Path, url: str) -> None:
    limits = LearningLimits(pair_floor=1000)  # of few items
    hosts = [
        Recommender.load(folder, learn=LearningSettings(tmp_path / name, stream=url, compact=False, limits=limits))
        for name in ("one", "two")
    ]
    for place, session in enumerate(drawn(21)):
        position = hosts[place % 2].observe(f"s{place}", [*session, "new-item"])
    hosts[0].add_items(["by-hand"], neighbors=[["sku-7", "sku-8"]])
    position = hosts[1].forget("s3")
    for host in hosts:
        until_learned(host, position)
    eventually(lambda: all("by-hand" in host.recommend(["sku-7", "new-item"], k=N + 2).items for host in hosts), 5)
    for host in hosts:
        host.learner.follower.catch_up()
    questions = drawn(22)
    assert answers(hosts[0], questions) == answers(hosts[1], questions)
    # One of them compacts what was learned; the other continues from the stream alone.
    settings = LearningSettings(tmp_path / "one", stream=url, compact=False, limits=limits)
    assert compact_folder(folder, settings) is not None
    compacted = Bundle.load(settings.folder / COMPACTED)
    assert compacted.model.log_progress.position == position
    restarted = Recommender.load(folder, learn=settings)
    assert restarted.log_position == position
    counted = int(restarted.learner.state.event_processor.items.clicks.sum() - MODEL.popularity.sum())
    assert counted == sum(len(set(session)) + 1 for place, session in enumerate(drawn(21)) if place != 3)
    position = restarted.observe("later", ["sku-1"], ids=["once"])
    until_learned(restarted, position)


def test_a_click_that_was_forgotten_stays_until_the_bundles_of_all_machines_have_learned_it(
    folder: Path,
    tmp_path: Path,
    url: str,
    log: RedisLog,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So a machine that restarts from an older bundle gives new items the ids that it gave them before."""
    one, two = (
        LearningSettings(tmp_path / name, stream=url, compact=False, max_log_bytes=1) for name in ("one", "two")
    )
    for settings in (one, two):
        Recommender.load(folder, learn=settings).close()
    log.append([Click("s", "new-1", NOON, id="e"), Click("t", "new-2", NOON, id="f")])
    rec = Recommender.load(folder, learn=one)
    rec.forget("s")
    rec.close()
    compact_folder(folder, one)
    assert [entry.event.id for entry in log.read(START) if isinstance(entry.event, Click)] == ["e", "f"]
    later = Recommender.load(folder, learn=two)
    assert later.ids.lookup(["new-2"]) == Bundle.load(one.folder / COMPACTED).ids.lookup(["new-2"])
    later.close()
    compact_folder(folder, two)
    assert not [entry for entry in log.read(START) if isinstance(entry.event, Click)]
    # A machine that is gone holds the stream back for a week, and is told when it returns.
    compact_folder(folder, one)
    log.append([Click("u", "sku-1", NOON, id="g")])
    log.append([Forget("u", NOON)])
    compact_folder(folder, one)
    assert [entry.event.id for entry in log.read(START) if isinstance(entry.event, Click)] == ["g"]
    monkeypatch.setattr(redis_log, "ABSENT_SECONDS", -1)
    compact_folder(folder, one)
    assert not [entry for entry in log.read(START) if isinstance(entry.event, Click)]
    assert "was not heard of for" in caplog.text
    Recommender.load(folder, learn=two).close()
    assert "was away while other machines removed events" in caplog.text


def test_an_outage_of_redis_is_logged_in_one_line_and_learning_resumes(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, redis: Redis
) -> None:
    server = redis
    rec = Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", stream=server.url, compact=False))
    until_learned(rec, rec.observe("s", ["sku-1", "sku-2"]))
    before = answers(rec, drawn(23))
    server.stop()
    with pytest.raises(LearnError, match="did not keep the events") as refused:
        rec.observe("t", ["sku-1"])
    assert "\n" not in str(refused.value)
    eventually(lambda: rec.learner.follower.failure is not None, 10)
    assert answers(rec, drawn(23)) == before, "rankings need no log"
    messages = [message for message in caplog.messages if message.startswith("learning has stopped")]
    assert len(messages) == 1
    server.start()
    position = again(lambda: rec.observe("u", ["sku-3", "sku-4"]))
    until_learned(rec, position)
    assert rec.learner.follower.failure is None
    assert answers(rec, drawn(23)) != before
    rec.close()  # before Redis goes
    server.stop()
    with pytest.raises(LearnError, match="does not answer"):
        Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", stream=server.url))


def again(work: Callable[[], str], seconds: float = 10.0) -> str:
    """Retry until it works, as a client does."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return work()
        except LearnError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_url_of_another_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match="not an address of Redis"):
        RedisLog("http://127.0.0.1:1/0")


def test_a_record_that_is_too_large_is_refused_with_all_that_came_with_it(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "MAX_RECORD_BYTES", 200)
    with pytest.raises(LearnError, match=r"too large for the stream .*; name fewer items in each call"):
        log.append([*clicks(1), Click("s", "x" * 200, NOON)])
    assert log.read(START) == []
