"""Feedback: answers have ids; feedback on an id is stored and counted, and not learned."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from msgspec import to_builtins

from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment import read_feedback
from mtaw_fast.experiment.feedback_file import NAME, STEP_ROWS, FeedbackFile, FeedbackReader, Report
from mtaw_fast.experiment.lines import RankingLine, ReportLine
from mtaw_fast.recommender import Recommender
from mtaw_fast.service import feedback_store
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.feedback_store import DAY_MS, RedisFeedback, SqliteFeedback, _Buffer
from mtaw_fast.service.observability.counters import KINDS
from mtaw_fast.service.observability.metrics import VALUE_CELLS, Metrics
from mtaw_fast.service.ranking_ids import PATTERN, load_key, new_id, session_code, version_in
from mtaw_fast.service.recording import CountedReports
from mtaw_fast.service.routes.feedback import feedback
from mtaw_fast.service.routes.requests import FeedbackRequest, ReportedItem
from mtaw_fast.service.settings import Settings
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.redis_server import Redis
from tests.support.service.running import WITH_TOKEN, Running, eventually, good, refused, running

VERSION = "0123456789abcdef"


def ranking(session: str, time: int, items: list[int | str] | None = None) -> RankingLine:
    """Return a ranking with a new id."""
    return RankingLine(
        time=time, recommendation=new_id(VERSION, session), session=session, version=VERSION, bundle="", share=1.0,
        placement="", rules="", rules_share=1.0, route="recommend", fallback=False, items=items or ["sku-1", "sku-2"],
    )  # fmt: skip


def shown(ranking: RankingLine, session: str = "", time: int = 1) -> ReportLine:
    """Return a report on a ranking."""
    return ReportLine(
        time=time, recommendation=ranking.recommendation, version=VERSION, session=session, what="shown",
        items=["sku-1"], positions=[1], values=[0.0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def service(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("feedback")
    flags = ("--feedback", f"{folder}/kept/", "--learn", str(folder / "learned"), "--max-k", "50")
    with running(memory_bundle, *flags, workers=2) as service:
        yield service
        service.assert_no_error()


def kept_in(folder: Path, table: str = "reports") -> list[dict[str, Any]]:
    """Return the lines in the file of a folder."""
    with FeedbackReader.open(folder / NAME) as reader:
        return [to_builtins(line) for line in reader.lines(table)]


def report(service: Running, **reported: Any) -> Any:
    return good(service.ask("POST", "/v1/feedback", reported))


def test_feedback_is_stored_and_counted_but_not_learned(service: Running) -> None:
    answer = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "k": 10}))
    name, items, version = answer["recommendation"], answer["items"], answer["version"]
    before = good(service.ask("POST", "/v1/recommend", {"session": items[:2]}))
    began = time.time_ns() // 1_000_000
    shown = [{"item": item, "position": place} for place, item in enumerate(items, start=1)]
    assert report(service, recommendation=name, shown=shown)["new"] == 10
    replies = [report(service, recommendation=name, clicked=[items[0], items[0]]) for _ in range(30)]  # to both workers
    assert [reply["new"] for reply in replies] == [1] + [0] * 29
    assert replies[0]["of"] == version
    bought = [{"item": items[1], "value": 59.9}]
    assert report(service, recommendation=name, clicked=items[:2], carted=items[1:2], bought=bought)["new"] == 3
    lines = [line for line in kept_in(Path(service.option("--feedback"))) if line["recommendation"] == name]
    assert [line["what"] for line in lines] == ["shown", "clicked", "clicked", "carted", "bought"]
    assert lines[0] == {
        "time": lines[0]["time"], "recommendation": name, "version": version, "session": "", "what": "shown",
        "items": items, "positions": list(range(1, 11)), "values": [0.0] * 10,
    }  # fmt: skip
    assert began <= lines[0]["time"] <= time.time_ns() // 1_000_000
    assert (lines[2]["items"], lines[-1]["items"], lines[-1]["values"]) == (items[1:2], items[1:2], [59.9])
    for _ in range(8):  # from either worker
        text = service.ask("GET", "/metrics").body.decode()
        for kind, count in (("shown", 10), ("clicked", 2), ("carted", 1), ("bought", 1)):
            assert f'mtaw_feedback_items_total{{version="{version}",what="{kind}"}} {count}\n' in text
        assert f'mtaw_feedback_value_total{{version="{version}"}} 59.90\n' in text
    assert service.metric("mtaw_feedback_total") == 32
    assert service.metric("mtaw_learned_clicks") == service.metric("mtaw_events_total") == 0
    after = good(service.ask("POST", "/v1/recommend", {"session": items[:2]}))
    assert (after["items"], after["scores"], after["log_position"]) == (
        before["items"],
        before["scores"],
        before["log_position"],
    )


def test_deleting_a_session_deletes_its_feedback(service: Running) -> None:
    """Of rankings that were asked for with the session's id, here or on another host, and reports that name it."""
    named = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "a@b.example"}))
    other = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "somebody else"}))
    without = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}))
    service.ranking_id(VERSION)  # sets the key here
    elsewhere = new_id(VERSION, "a@b.example")
    names = [answer["recommendation"] for answer in (named, other, without)]
    for name in (*names, elsewhere):
        report(service, recommendation=name, shown=named["items"][:3])
    report(service, recommendation=names[2], clicked=["sku-4"], session="a@b.example")
    folder = Path(service.option("--feedback"))
    good(service.ask("DELETE", "/v1/sessions/a%40b.example"))
    left = [line["recommendation"] for line in kept_in(folder)]
    assert [left.count(name) for name in (*names, elsewhere)] == [0, 1, 1, 0]
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"a@b.example" not in content
    assert names[0].encode() not in content
    assert names[1].encode() in content
    assert {path.name for path in folder.iterdir()} == {NAME, f"{NAME}-journal", f"{NAME}-lock", "ranking-ids.key"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert (folder / f"{NAME}-journal").stat().st_size == 0


def test_a_ranking_on_its_way_is_not_written_after_its_session_was_deleted(tmp_path: Path) -> None:
    """Another worker may have it; a ranking after the deletion is kept."""
    first, second = (FeedbackFile(tmp_path / "kept", session_code) for _ in range(2))
    assert first.forget({"s-1": 500}) == {"s-1"}
    second.append([ranking("s-1", time) for time in (499, 500, 501)] + [ranking("s-2", 400)], [])
    with FeedbackReader.open(tmp_path / "kept") as reader:
        assert [(line.session, line.time) for line in reader.lines("rankings")] == [("s-2", 400), ("s-1", 501)]


def test_nothing_of_forgotten_sessions_is_left_in_the_file(tmp_path: Path) -> None:
    """Not where the pages of the trees were split or merged either, with rows of every size."""
    rng, live, gone = random.Random(2), [], set()
    file = FeedbackFile(tmp_path / "kept", session_code)
    for turn in range(60):
        lines = []
        for _ in range(60):
            session = f"s-{rng.getrandbits(60):015x}" + "x" * rng.randrange(80)
            items: list[int | str] = [f"sku-{rng.randrange(999)}" for _ in range(rng.choice((5, 20, 400)))]
            lines.append(ranking(session, turn, items))
        live += lines
        file.append(lines, [Report(shown(line, rng.choice(("", line.session))), None) for line in lines])
        rng.shuffle(live)
        left = {line.session: 0 for line in live[:30]}
        gone |= {session[:17].encode() for session in left}
        while left:
            for session in file.forget(left):
                del left[session]
        del live[:30]
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not gone & set(re.findall(rb"s-[0-9a-f]{15}", content))
    with FeedbackReader.open(tmp_path / "kept") as reader:
        assert sorted(line.recommendation for line in reader.lines("rankings")) == sorted(
            line.recommendation for line in live
        )
        assert len(list(reader.lines("reports"))) == len(live)


def test_a_long_session_is_forgotten_in_steps_between_which_reports_are_stored(tmp_path: Path) -> None:
    steps: list[str] = []

    async def main() -> None:
        store = SqliteFeedback(tmp_path / "kept", folder=False)
        lines = [ranking("long", 1) for _ in range(3 * STEP_ROWS)]
        store._file.append(lines, [])
        plain = store._file.append, store._file.forget

        def append(*arguments: Any) -> None:
            steps.append("append")
            plain[0](*arguments)

        def forget(sessions: Any) -> set[str]:
            steps.append("forget")
            return plain[1](sessions)

        store._file.append, store._file.forget = append, forget  # type: ignore[method-assign,assignment]
        forgetting = asyncio.create_task(store.forget("long", lambda: False))
        for _ in range(3):
            await store.keep([shown(lines[0])])
        await forgetting
        await store.close()

    asyncio.run(main())
    assert steps.count("forget") == 4
    assert steps[:4] in (["forget", "append"] * 2, ["append", "forget"] * 2), steps
    with FeedbackReader.open(tmp_path / "kept") as reader:
        assert list(reader.lines("rankings")) == []


def test_deletions_have_a_queue_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is bounded, merges requests, and drops those whose clients have gone; reports do not wait for it."""
    monkeypatch.setattr(feedback_store, "_MAX_FORGETS", 20)
    taken: list[list[str]] = []

    async def main() -> None:
        store = SqliteFeedback(tmp_path / "kept", folder=False)
        released = asyncio.Event()

        async def step(sessions: Any) -> set[str]:
            taken.append(list(sessions))
            await released.wait()
            return set(sessions)

        store._forgets._step = step
        first = asyncio.create_task(store.forget("first", lambda: False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(store.forget(f"x{n % 20}", lambda n=n: n % 20 == 3)) for n in range(40)]
        await asyncio.sleep(0)
        with pytest.raises(ServiceError, match="20 sessions wait"):
            await store.forget("one more", lambda: False)
        await store.keep([shown(ranking("a", 1))])
        released.set()
        await first
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(result) for result in results[:5]] == [type(None)] * 3 + [ConnectionResetError, type(None)]
        await store.close()

    asyncio.run(main())
    assert taken == [["first"], [f"x{n}" for n in range(17) if n != 3], ["x17", "x18", "x19"]]


def test_a_deletion_whose_client_has_gone_is_dropped(tmp_path: Path, text_bundle: Path) -> None:
    head = b"DELETE /v1/sessions/%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sessions = ["staying", "leaving"]
    with running(text_bundle, "--feedback", f"{tmp_path}/") as service:
        for session in sessions:
            good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": session}))
        eventually(lambda: [line["session"] for line in kept_in(tmp_path, "rankings")] == sessions)
        connections = [service.raw() for _ in range(3)]
        with (tmp_path / f"{NAME}-lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for session, connection in zip(("unknown", *sessions), connections, strict=True):
                connection.sendall(head % session.encode())  # the first has begun and waits for the lock
                time.sleep(0.2)
            connections.pop().close()
            time.sleep(0.2)
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.close()
        assert [line["session"] for line in kept_in(tmp_path, "rankings")] == ["leaving"]


def test_300_deletions_do_not_stop_feedback(service: Running) -> None:
    with contextlib.closing(service.raw()) as connection:
        head = b"DELETE /v1/sessions/x%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.sendall(b"".join(head % number for number in range(300)))
        for _ in range(43):
            assert report(service, recommendation=service.ranking_id(VERSION), shown=["sku-11"])["new"] == 1


def test_old_days_are_dropped_in_small_steps(tmp_path: Path) -> None:
    file = FeedbackFile(tmp_path / "kept", session_code)
    old, new = [ranking("s", 10) for _ in range(2 * STEP_ROWS)], ranking("s", 1000)
    file.append([*old, new], [Report(shown(old[0], time=2000), None), Report(shown(new, time=2000), None)])
    steps = 1
    while file.drop_before(1000):
        steps += 1
    assert steps == 3
    with FeedbackReader.open(tmp_path / "kept") as reader:
        assert [line.recommendation for line in reader.lines("rankings")] == [new.recommendation]
        assert [line.recommendation for line in reader.lines("reports")] == [new.recommendation]


def test_a_service_drops_days_before_the_retention(tmp_path: Path, text_bundle: Path) -> None:
    folder, today = tmp_path / "kept", time.time_ns() // 1_000_000
    folder.mkdir()
    FeedbackFile(folder / NAME).append([ranking(f"s-{days}", today - days * DAY_MS) for days in range(5)], [])
    with running(text_bundle, "--feedback", f"{folder}/", "--feedback-retention", "2", workers=2):
        eventually(lambda: [line["session"] for line in kept_in(folder, "rankings")] == ["s-2", "s-1", "s-0"])
    for days, words in ((0, "1 to"), (None, "needs --feedback")):
        with pytest.raises(UsageError, match=words):
            Settings(tmp_path, feedback=None if days is None else "x", feedback_retention=days or 5 * (days is None))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        *((wrong, "invalid_request") for wrong in (
            {"recommendation": "x"}, {"recommendation": f"{VERSION}-" + "0" * 36}, {"recommendation": new_id(VERSION)},
            {"recommendation": None}, {"shown": "sku-1"}, {"shown": [1.5]}, {"bought": [{"item": "x", "value": -1}]},
            {"bought": [{"value": 1}]}, {"clicked": [{"item": "x", "position": -1}]}, {"more": []},
        )),
        ({"shown": ["sku-1"] * 51}, "k_too_large"), ({"shown": [7]}, "invalid_item"),
    ],
)  # fmt: skip
def test_wrong_feedback_is_refused_and_not_kept(service: Running, wrong: dict[str, Any], code: str) -> None:
    body = {"recommendation": service.ranking_id(VERSION), **wrong}
    count = len(kept_in(Path(service.option("--feedback"))))
    refused(service.ask("POST", "/v1/feedback", body), 400, code)
    evil = {"Origin": "http://evil.example"}
    fine = {"recommendation": service.ranking_id(VERSION), "clicked": ["sku-1"]}
    refused(service.ask("POST", "/v1/feedback", fine, evil), 403, "foreign_origin")
    assert len(kept_in(Path(service.option("--feedback")))) == count


def test_a_full_disk_is_a_503_and_stores_nothing(tmp_path: Path, text_bundle: Path) -> None:
    with running(text_bundle, "--feedback", f"{tmp_path}/") as service:
        name, items = service.ranking_id(VERSION), [f"sku-{i}" for i in range(20)]
        report(service, recommendation=name, shown=items)
        (worker,) = service.worker_pids()
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (6000, before[1]))  # less than the journal needs
        second = service.ranking_id(VERSION)
        reply = service.ask("POST", "/v1/feedback", {"recommendation": second, "shown": items})
        refused(reply, 503, "not_kept")
        assert reply.headers["retry-after"] == "1"
        refused(service.ask("DELETE", "/v1/sessions/s-1"), 503, "not_kept")
        assert service.metric("mtaw_feedback_refused_total") == 1
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        assert [line["recommendation"] for line in kept_in(tmp_path)] == [name]
        assert report(service, recommendation=second, shown=items)["new"] == 20
        assert [line["recommendation"] for line in kept_in(tmp_path)] == [name, second]
        assert service.metric('mtaw_feedback_items_total{version="other",what="shown"}') == 40


@pytest.mark.parametrize("call", ["fdatasync", "fsync", "pwrite64", "ftruncate"])
def test_what_a_failing_disk_did_not_take_is_an_error_and_nothing_else_is_lost(tmp_path: Path, call: str) -> None:
    """strace makes every such call fail in a process that stores, forgets, and reports how both ended."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    path = tmp_path / "kept"
    old, new = ranking("s-1", 1), ranking("s-2", 2)
    file = FeedbackFile(path, session_code)
    file.append([old], [])
    file.close()
    program = f"""
import os, sys
from tests.service.test_feedback import *
file = FeedbackFile(Path({str(path)!r}), session_code)
for step in (lambda: file.append([ranking("s-2", 2)], []), lambda: file.forget({{"s-1": 0}})):
    try:
        step()
    except (sqlite3.Error, OSError) as error:
        print(type(error).__name__)
    else:
        print("stored")
"""
    fails = ("-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error=EIO")
    found = subprocess.run(["strace", *fails, sys.executable, "-c", program], capture_output=True, text=True)
    stored, forgotten = (word == "stored" for word in found.stdout.split())
    with FeedbackReader.open(path) as reader:
        sessions = [line.session for line in reader.lines("rankings")]
    assert not forgotten, "every step needs the call"
    assert (new.session in sessions) == stored
    assert sessions[:1] == [old.session] or call == "fsync"  # there only the end of the journal was not flushed


def test_an_acknowledged_report_outlives_a_killed_worker(tmp_path: Path) -> None:
    """Four processes store and forget; each is killed at a random moment, and the next ones go on."""
    path = tmp_path / "kept"
    FeedbackFile(path, session_code).close()

    def work(number: int, told: int) -> None:
        file, count = FeedbackFile(path, session_code), 0
        while True:
            line = ranking(f"{number}-{count}", 1)
            file.append([line], [Report(shown(line), None)])
            os.write(told, b"%d %d\n" % (number, count))
            if count % 3 == 0:
                file.forget({line.session: 0})
                os.write(told, b"%d -%d\n" % (number, count))
            count += 1

    kept: set[str] = set()
    for turn in range(3):
        reading, told = os.pipe()
        pids = []
        for number in range(4):
            pid = os.fork()
            if not pid:
                with contextlib.suppress(BaseException):
                    work(4 * turn + number, told)
                os._exit(1)
            pids.append(pid)
        os.close(told)
        time.sleep(0.3)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        with os.fdopen(reading) as lines:
            for line in lines:
                writer, _, count = line.strip().partition(" ")
                kept.discard(f"{writer}{count}") if count.startswith("-") else kept.add(f"{writer}-{count}")
    with FeedbackReader.open(path) as reader:
        found = {line.session for line in reader.lines("rankings")}
        reports = {line.recommendation for line in reader.lines("reports")}
        assert {line.recommendation for line in reader.lines("rankings")} == reports
        assert reader._db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert len(kept) > 12
    assert kept - found <= {
        max((s for s in kept if s.startswith(f"{n}-")), key=lambda s: int(s.split("-")[1]))
        for n in {s.split("-")[0] for s in kept}
    }  # a deletion that was done and not told
    extra = found - kept
    assert len(extra) <= 12, "a row that was stored and not told, of each process at most"


def test_a_file_that_was_moved_away_begins_anew(tmp_path: Path) -> None:
    file = FeedbackFile(tmp_path / "kept", session_code)
    file.append([ranking("s-1", 1)], [])
    (tmp_path / "kept").rename(tmp_path / "moved")
    file.append([ranking("s-2", 1)], [])
    for name, session in (("moved", "s-1"), ("kept", "s-2")):
        with FeedbackReader.open(tmp_path / name) as reader:
            assert [line.session for line in reader.lines("rankings")] == [session]


def test_feedback_in_redis(redis: Redis, text_bundle: Path) -> None:
    import redis as redis_py

    with running(text_bundle, "--feedback", f"{redis.url}?stream=reported", workers=2) as service:
        answer = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "s-1"}))
        name = answer["recommendation"]
        for _ in range(10):
            report(service, recommendation=name, shown=["sku-11", "sku-12"], clicked=["sku-11"])
        client = redis_py.Redis(port=redis.port)
        first, second = (json.loads(values[b"f"]) for _, values in client.xrange("reported"))
        assert (first["items"], second["what"]) == (["sku-11", "sku-12"], "clicked")
        eventually(lambda: client.xlen("reported:rankings") == 1)
        table = read_feedback(f"{redis.url}?stream=reported")
        assert (table.shown.tolist(), table.clicked.tolist(), table.duplicates) == ([1.0], [1.0], 0)
        other = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "s-2"}))
        report(service, recommendation=other["recommendation"], clicked=["sku-12"], session="s-1")
        report(service, recommendation=other["recommendation"], shown=["sku-12"])
        scans = client.info("commandstats")["cmdstat_xrange"]["calls"]
        good(service.ask("DELETE", "/v1/sessions/s-1"))
        assert client.info("commandstats")["cmdstat_xrange"]["calls"] == scans, "found by the index"
        assert [client.xlen(name) for name in ("reported", "reported:rankings")] == [1, 1]
        good(service.ask("DELETE", "/v1/sessions/s-2"))
        assert set(client.keys()) == {b"reported", b"reported:rankings", b"reported:key"}
        assert client.xlen("reported") == client.xlen("reported:rankings") == 0
        reported = f'mtaw_feedback_items_total{{version="{name[:16]}",what="%s"}}'
        assert [service.metric(reported % what) for what in ("shown", "clicked")] == [3, 2]
        redis.stop()
        refused(service.ask("POST", "/v1/feedback", {"recommendation": name, "clicked": ["x"]}), 503, "not_kept")
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        redis.start()
        assert report(service, recommendation=name, clicked=["x"])["new"] == 1


def test_feedback_in_redis_behind_a_socket(redis: Redis, text_bundle: Path, tmp_path: Path) -> None:
    """Its key is kept there too, and the command reads it; the database is one of the parameters."""
    redis.stop()
    redis.options = ("--unixsocket", str(tmp_path / "socket"))
    redis.start()
    where = f"unix://{tmp_path}/socket?db=2&stream=reported"
    with running(text_bundle, "--feedback", where) as service:
        answer = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "s-1"}))
        assert report(service, recommendation=answer["recommendation"], clicked=["sku-11"])["new"] == 1
        eventually(lambda: len(read_feedback(where)) == 1)
        assert not [line for line in service.events() if line["event"] == "ranking_key_not_kept"]
        key = load_key(Settings(tmp_path, feedback=where))
        assert key == load_key(Settings(tmp_path, feedback=where))
    with pytest.raises(UsageError, match="it may name a stream, and names more"):
        RedisFeedback(f"{where}&more=1", timeout=1)


def test_old_entries_of_redis_are_dropped(redis: Redis) -> None:
    import redis as redis_py

    client = redis_py.Redis(port=redis.port)

    async def main() -> None:
        store = RedisFeedback(redis.url, timeout=2, days=2)
        for name in ("mtaw:feedback", "mtaw:feedback:rankings"):
            for number in range(1, 250):
                client.xadd(name, {"f": "{}"}, id=f"{number}-1")
        while await store.drop_before(221):
            pass
        store.record(ranking("a", 1))
        await store.close()

    asyncio.run(main())
    assert [client.xlen(f"mtaw:feedback{end}") for end in ("", ":rankings")] == [29, 30]
    (index,) = client.keys("mtaw:feedback:session:*")
    assert 2 * 86_400 < client.ttl(index) <= 3 * 86_400


def test_a_redis_that_was_restarted_loses_no_ranking(redis: Redis) -> None:
    import redis as redis_py

    async def main() -> None:
        store = RedisFeedback(redis.url, timeout=2)
        for _ in range(2):
            store.record(ranking("a", 1))
            await store._rankings.flush()
            assert redis_py.Redis(port=redis.port).xlen("mtaw:feedback:rankings") == 1
            redis.stop()
            redis.start()
        await store.forget("a", lambda: False)
        await store.close()

    asyncio.run(main())


def test_feedback_stores_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        SqliteFeedback(tmp_path / "missing" / "file", folder=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        SqliteFeedback(tmp_path / "file", folder=True)
    for name, lines in (("lines", b'{"time": 5}\n'), ("new.rankings", b""), ("days/rankings-2026-01-01.jsonl", b"")):
        (tmp_path / "days").mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(lines)
        path = tmp_path / name.partition("/")[0].removesuffix(".rankings")
        with pytest.raises(UsageError, match=r"JSON lines.*import them with 'mtaw-fast experiment"):
            SqliteFeedback(path, folder=path.is_dir())
    sqlite3.connect(tmp_path / "foreign").execute("CREATE TABLE a (b)")
    with pytest.raises(UsageError, match="a database of another program or version; name another file"):
        SqliteFeedback(tmp_path / "foreign", folder=False)
    with pytest.raises(UsageError, match="--feedback contains a password"):
        Settings(tmp_path, feedback="redis://:secret@host/0")


def test_explored_items_are_marked_and_reported(service: Running) -> None:
    body = {"session": ["sku-11"], "k": 10, "explore": 0.4, "reasons": True}
    assert not any(good(service.ask("POST", "/v1/recommend", body))["explored"])  # there is no new item
    added = {"items": [f"new-{number}" for number in range(4)], "vectors": np.eye(4, 12).tolist()}
    position = good(service.ask("POST", "/admin/items/add", added, WITH_TOKEN))["log_position"]
    ask = ("POST", "/v1/recommend", body)
    answer = eventually(lambda: (found := good(service.ask(*ask)))["log_position"] >= position and found)
    assert any(answer["explored"])
    explored = [item for item, is_explored in zip(answer["items"], answer["explored"], strict=True) if is_explored]
    assert [reason.get("rule") == "explored" for reason in answer["reasons"]] == answer["explored"]
    assert "explored" not in good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "explore": 0}))
    report(service, recommendation=answer["recommendation"], shown=answer["items"], explored=explored)
    lines = kept_in(Path(service.option("--feedback")))
    kept = [line for line in lines if line["recommendation"] == answer["recommendation"]]
    assert [line["items"] for line in kept if line["what"] == "explored"] == [explored] * bool(explored)
    recorded = eventually(lambda: answer["recommendation"] in (ids := _rankings(service)) and ids)
    assert recorded[answer["recommendation"]]["clicks"] == ["sku-11"]
    draws = recorded[answer["recommendation"]]["draws"]
    assert [draw["position"] for draw in draws] == [n for n, drawn in enumerate(answer["explored"], 1) if drawn]
    for draw in draws:
        assert answer["items"][draw["position"] - 1] in draw["candidates"]
        assert 0 < draw["chance"] <= 1
    for wrong in (1.5, -1, "x"):
        refused(service.ask("POST", "/v1/recommend", {**body, "explore": wrong}), 400, "invalid_request")


def _rankings(service: Running) -> dict[str, Any]:
    """Return the recorded rankings by id."""
    return {line["recommendation"]: line for line in kept_in(Path(service.option("--feedback")), "rankings")}


def test_a_service_explores_new_items_by_itself_and_says_what_became_of_them(
    memory_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(memory_bundle, "--explore-below", "30", "--learn", str(tmp_path / "learned")) as service:
        body = {"session": ["sku-11"], "k": 20}
        assert "explored" not in good(service.ask("POST", "/v1/recommend", body))  # there is no new item
        added = {"items": ["new-1"], "vectors": np.eye(1, 12).tolist()}
        good(service.ask("POST", "/admin/items/add", added, WITH_TOKEN))
        answers = [good(service.ask("POST", "/v1/recommend", body)) for _ in range(12)]
        assert all("new-1" in answer["items"] for answer in answers)
        batch = good(service.ask("POST", "/v1/recommend/batch", {"sessions": [["sku-12"]], "k": 20}))
        assert len(batch["answers"][0]["explored"]) == 20
        new_items = {"item": "new-1", "displays": 13, "clicks": 0, "explored": True}
        assert good(service.ask("GET", "/admin/items/new", None, WITH_TOKEN))["items"] == [new_items]
        assert "explored" not in good(service.ask("POST", "/v1/recommend", {**body, "explore": 0}))
        for _ in range(30):
            good(service.ask("POST", "/v1/recommend", body))
        (found,) = good(service.ask("GET", "/admin/items/new", None, WITH_TOKEN))["items"]
        assert found == {"item": "new-1", "displays": 30, "clicks": 0, "explored": False}
        service.assert_no_error()
    capsys.readouterr()
    assert main(["items", str(memory_bundle), "--new", "--learn", str(tmp_path / "learned")]) == 0
    assert capsys.readouterr().out == "new-1: shown 30, clicked 0, explored\n1 new items\n"
    assert main(["items", str(memory_bundle)]) == 2
    assert "give FILE, a table, or --new" in capsys.readouterr().err


def test_a_ranking_is_recorded_with_its_session_bundle_rules_and_items(tmp_path: Path, text_bundle: Path) -> None:
    other = tmp_path / "other.bundle"
    save_parts(other, **bundle_parts(seed=3))
    flags = ("--feedback", f"{tmp_path}/kept/", "--sessions", "memory")
    with running(Path(f"--bundle={text_bundle}=75"), "--bundle", f"{other}=25", *flags) as service:
        odd = 'a "b" \u2028 ü'
        body = {"session": ["sku-11"], "k": 3, "session_id": odd, "rules": {"pin": {"sku-12": 1}}}
        answers = [good(service.ask("POST", "/v1/recommend", body))]
        answers.append(good(service.ask("POST", "/v1/sessions/s-1/click", {"items": ["nobody"], "k": 2})))
        batch = good(service.ask("POST", "/v1/recommend/batch", {"sessions": [["sku-11"], []], "session_id": "s-2"}))
        answers += batch["answers"]
        answers.append(good(service.ask("GET", "/v1/similar?item=sku-11&k=2&session_id=s-2")))
        good(service.ask("POST", "/v1/recommend", {"session": []}))
        lines = eventually(lambda: (kept := kept_in(tmp_path / "kept", "rankings"))[5:] and kept)
        names = [line["recommendation"] for line in lines]
        assert names[:5] == [answer["recommendation"] for answer in answers]
        assert len(set(names)) == 6
        assert all(re.fullmatch(PATTERN, name) for name in names)
        assert version_in(names[0]) == answers[0]["version"]
        assert [line["items"] for line in lines[:5]] == [answer["items"] for answer in answers]
        assert [line["session"] for line in lines] == [odd, "s-1", "s-2", "s-2", "s-2", ""]
        assert [line["route"] for line in lines] == ["recommend", "click", "batch", "batch", "similar", "recommend"]
        assert [line["fallback"] for line in lines] == [False, True, False, True, False, True]
        assert {(line["bundle"], line["share"]) for line in lines} <= {("bundle", 0.75), ("other.bundle", 0.25)}
        assert re.fullmatch("#[0-9a-f]{8}", lines[0]["rules"])
        assert {line["rules"] for line in lines[1:]} == {""}
        good(service.ask("DELETE", f"/v1/sessions/{quote(odd)}"))
        assert [line["session"] for line in kept_in(tmp_path / "kept", "rankings")] == ["s-1", "s-2", "s-2", "s-2", ""]
        assert main(["experiment", f"{tmp_path}/kept", "--export", f"{tmp_path}/lines"]) == 0
        polars = pytest.importorskip("polars")
        frame = polars.read_ndjson(tmp_path / "lines" / "rankings-*.jsonl")
        assert frame["items"].dtype == polars.List(polars.String)


def test_a_ranking_is_recorded_with_its_placement_and_rule_set(tmp_path: Path, text_bundle: Path) -> None:
    rec = Recommender.load(text_bundle, state=tmp_path / "state")
    pins = [
        {"name": name, "rules": {"pin": {item: 1}}, "share": 0.5} for name, item in (("a", "sku-12"), ("b", "sku-13"))
    ]
    rec.set_placement("cart", {"sets": pins, "together": True})
    rec.set_placement("home", {"sets": [{"rules": {"pin": {"sku-14": 1}}}]})
    rec.close()
    flags = ("--feedback", f"{tmp_path}/kept/", "--state", f"{tmp_path}/state", "--sessions", "memory")
    with running(text_bundle, *flags) as service:

        def ask(session: str, **more: Any) -> str:
            body = {"session": ["sku-11"], "k": 3, "session_id": session, **more}
            return good(service.ask("POST", "/v1/recommend", body))["items"][0]

        names = [f"s-{number}" for number in range(20)]
        first = {name: ask(name, placement="cart") for name in names}
        for name in names[:4]:  # also with rules of their own, and on the other routes
            assert ask(name, placement="cart", rules={"limit": []}) == first[name]
            click = service.ask(
                "POST", f"/v1/sessions/{name}/click", {"items": ["sku-11"], "k": 3, "placement": "cart"}
            )
            similar = service.ask("GET", f"/v1/similar?item=sku-11&k=3&placement=cart&session_id={name}")
            batch = {"sessions": [["sku-11"]], "k": 3, "placement": "cart", "session_id": name}
            answers = good(service.ask("POST", "/v1/recommend/batch", batch))["answers"]
            assert [good(click)["items"][0], good(similar)["items"][0], answers[0]["items"][0]] == [first[name]] * 3
        ask("s-1", placement="home", rules={"limit": []})
        ask("s-1", placement="nowhere")
        assert ask("s-1", placement="home") == "sku-14"
        lines = eventually(lambda: (kept := kept_in(tmp_path / "kept", "rankings"))[38:] and kept)
        service.assert_no_error()
    expected = {"sku-12": "a", "sku-13": "b"}
    for line in lines[:36]:
        assert (line["placement"], line["rules"]) == ("cart", expected[first[line["session"]]])
        assert (line["items"][0], line["rules_share"]) == (first[line["session"]], 0.5)
    assert {line["rules"] for line in lines[:36]} == {"a", "b"}
    (home, rules), nowhere, last = [(line["placement"], line["rules"]) for line in lines[36:]]
    assert (home, nowhere, last) == ("home", ("nowhere", ""), ("home", "set-1"))
    assert rules.startswith("#")
    assert {line["rules_share"] for line in lines[36:]} == {1.0}


def test_rankings_that_cannot_be_written_are_logged_and_lost(caplog: pytest.LogCaptureFixture) -> None:
    written: list[bytes] = []

    async def write(lines: list[bytes]) -> None:
        if lines[0] == b"full":
            raise OSError(28, "No space left on device")
        written.extend(lines)

    async def use() -> None:
        buffer = _Buffer(write)
        for line in (b"full", b"too"):
            buffer.add(line)
        await buffer.flush()
        buffer.add(b"later")
        await asyncio.sleep(0.3)
        assert written == [b"later"]
        buffer.add(b"at the end")
        await buffer.close()

    asyncio.run(use())
    assert written == [b"later", b"at the end"]
    (record,) = [logged for logged in caplog.records if logged.message == "rankings_not_kept"]
    assert (record.fields["count"], record.fields["reason"]) == (2, "OSError")  # type: ignore[attr-defined]


def test_rankings_wait_up_to_a_limit_while_the_disk_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feedback_store, "_FLUSH_SECONDS", 0)
    monkeypatch.setattr(feedback_store, "_MAX_WAITING", 3)
    taken: list[bytes] = []

    async def use() -> None:
        released = asyncio.Event()

        async def write(lines: list[bytes]) -> None:
            taken.extend(lines)
            await released.wait()

        buffer = _Buffer(write)
        for number in range(10):
            buffer.add(b"%d" % number)
            for _ in range(5):
                await asyncio.sleep(0)
        assert taken == [b"0"]
        closing = asyncio.create_task(buffer.close())
        await asyncio.sleep(0)
        released.set()
        await closing

    asyncio.run(use())
    assert taken == [b"0", b"1", b"2", b"3"]


def test_a_report_that_comes_twice_at_once_counts_once() -> None:
    """The second one comes while the first is being stored."""
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    metrics.serve(VERSION)
    stored: list[bytes] = []

    async def both() -> list[Any]:
        released = asyncio.Event()

        async def keep(lines: Sequence[bytes]) -> None:
            stored.extend(lines)
            await released.wait()

        service = SimpleNamespace(
            settings=Settings(Path()), metrics=metrics, reports=CountedReports(metrics.counters.reports),
            feedback=SimpleNamespace(keep=keep), take=lambda _: SimpleNamespace(version=VERSION),
            reloader=SimpleNamespace(snapshot=SimpleNamespace(recommender=SimpleNamespace(ids=SimpleNamespace(kind="str")))),
        )  # fmt: skip
        request: Any = SimpleNamespace(
            app=SimpleNamespace(state=SimpleNamespace(service=service)), method="POST",
            headers={"content-type": "application/json"},
        )  # fmt: skip
        bought: list[Any] = [ReportedItem(item="sku-1", value=5.0)]
        data = FeedbackRequest(recommendation=new_id(VERSION), clicked=["sku-1"], bought=bought)
        responses = asyncio.gather(*(feedback.fn(request, data) for _ in range(2)))
        while len(stored) < 4:
            await asyncio.sleep(0)
        released.set()
        return [json.loads(response.content)["new"] for response in await responses]

    assert asyncio.run(both()) == [2, 0]
    counts = dict(zip(KINDS, metrics.counters.by_version()[VERSION], strict=True))
    assert (counts["clicked"], counts["bought"], counts["value"]) == (1, 1, 5 * VALUE_CELLS)
