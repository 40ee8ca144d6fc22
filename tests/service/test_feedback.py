"""Feedback: answers have ids; feedback on an id is stored and counted, and not learned."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.experiment import read_feedback
from mtaw_fast.experiment.feedback_log import RANKINGS
from mtaw_fast.service import feedback_store
from mtaw_fast.service.feedback_store import FeedbackFile, RedisFeedback, _Buffer
from mtaw_fast.service.observability.counters import KINDS
from mtaw_fast.service.observability.metrics import VALUE_CELLS, Metrics
from mtaw_fast.service.ranking_ids import PATTERN, new_id, version_in
from mtaw_fast.service.recording import CountedReports
from mtaw_fast.service.routes.feedback import feedback
from mtaw_fast.service.routes.requests import FeedbackRequest, ReportedItem
from mtaw_fast.service.settings import Settings
from tests.support.forks import child
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.redis_server import Redis
from tests.support.service.running import Running, eventually, good, refused, running

VERSION = "0123456789abcdef"


@pytest.fixture(scope="module")
def service(memory_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("feedback")
    flags = ("--feedback", f"{folder}/kept/", "--learn", str(folder / "learned"), "--max-k", "50")
    with running(memory_bundle, *flags, workers=2) as service:
        yield service
        service.assert_no_error()


def kept_in(folder: Path, kind: str = "feedback") -> list[dict[str, Any]]:
    """Return the lines in the files of a folder."""
    files = sorted(folder.glob(f"{kind}-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().split("\n") if line]


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
        assert f'mtaw_click_through_rate{{version="{version}"}} 0.200000\n' in text
    assert service.metric("mtaw_feedback_total") == 32
    assert service.metric("mtaw_learned_clicks") == service.metric("mtaw_events_total") == 0
    after = good(service.ask("POST", "/v1/recommend", {"session": items[:2]}))
    assert (after["items"], after["scores"], after["log_position"]) == (
        before["items"],
        before["scores"],
        before["log_position"],
    )


def test_deleting_a_session_deletes_its_feedback(service: Running) -> None:
    """Of rankings that were asked for with the session's id, and in lines that name it; of earlier days too."""
    named = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "a@b.example"}))
    other = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"], "session_id": "somebody else"}))
    without = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}))
    for answer in (named, other, without, named):
        report(service, recommendation=answer["recommendation"], shown=answer["items"][:3])
    report(service, recommendation=without["recommendation"], clicked=["sku-4"], session="a@b.example")
    folder = Path(service.option("--feedback"))
    [today] = folder.glob("feedback-*.jsonl")
    earlier = folder / "feedback-2020-01-01.jsonl"
    earlier.write_bytes(b"\n{damaged\n" + today.read_bytes())
    lines = len(today.read_text().splitlines())
    good(service.ask("DELETE", "/v1/sessions/a%40b.example"))
    for path in (today, earlier):
        text = path.read_text()
        assert named["recommendation"] not in text
        assert "a@b.example" not in text
        assert other["recommendation"] in text
        assert text.count(without["recommendation"]) == 1
    assert len(today.read_text().splitlines()) == lines - 2
    assert earlier.read_bytes().startswith(b"\n{damaged\n")
    earlier.unlink()
    for number in range(10):  # both workers go on in the file that replaced it
        report(service, recommendation=other["recommendation"], clicked=[f"sku-{number}"])
    assert len(today.read_text().splitlines()) == lines - 2 + 10
    assert [path.name for path in folder.glob(".*")] == []


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


def test_a_full_disk_is_a_503_and_leaves_no_partial_line(tmp_path: Path, text_bundle: Path) -> None:
    where = tmp_path / "reported.jsonl"
    with running(text_bundle, "--feedback", str(where)) as service:
        name, items = service.ranking_id(VERSION), [f"sku-{i}" for i in range(20)]
        report(service, recommendation=name, shown=items)
        size = where.stat().st_size
        (worker,) = service.worker_pids()
        before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
        resource.prlimit(worker, resource.RLIMIT_FSIZE, (size + 100, before[1]))  # enough for a part of a line
        second = service.ranking_id(VERSION)
        reply = service.ask("POST", "/v1/feedback", {"recommendation": second, "shown": items})
        refused(reply, 503, "not_kept")
        assert reply.headers["retry-after"] == "1"
        assert where.stat().st_size == size
        assert service.metric("mtaw_feedback_refused_total") == 1
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
        assert report(service, recommendation=second, shown=items)["new"] == 20
        assert where.stat().st_size == 2 * size
        assert service.metric('mtaw_feedback_items_total{version="other",what="shown"}') == 40


def test_lines_of_many_writers_are_whole(tmp_path: Path) -> None:
    where = tmp_path / "reported.jsonl"
    where.write_bytes(b'{"torn": ')  # left by a crash
    stores = [FeedbackFile(where, folder=False) for _ in range(4)]
    lines = [json.dumps({"writer": number, "filling": "x" * 3000}).encode() for number in range(4)]

    def write(store: FeedbackFile, line: bytes) -> None:
        for _ in range(50):
            store._append(line)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, stores, lines))
    torn, *whole = where.read_bytes().splitlines()
    assert torn == b'{"torn": '
    assert sorted(whole) == sorted(lines * 50)
    moved = where.rename(tmp_path / "reported.1")
    stores[0]._append(b"{}")
    assert where.read_bytes() == b"{}\n"
    assert moved.stat().st_size > 0


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
        good(service.ask("DELETE", "/v1/sessions/s-1"))
        assert client.xlen("reported") == client.xlen("reported:rankings") == 0
        assert service.metric(f'mtaw_click_through_rate{{version="{name[:16]}"}}') == 0.5
        redis.stop()
        refused(service.ask("POST", "/v1/feedback", {"recommendation": name, "clicked": ["x"]}), 503, "not_kept")
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        redis.start()
        assert report(service, recommendation=name, clicked=["x"])["new"] == 1


def test_a_redis_that_was_restarted_loses_no_ranking(redis: Redis) -> None:
    import redis as redis_py

    async def main() -> None:
        store = RedisFeedback(redis.url, timeout=2)
        for _ in range(2):
            store.record(b'{"session":"a","items":[]}')
            await store._rankings.flush()
            assert redis_py.Redis(port=redis.port).xlen("mtaw:feedback:rankings") == 1
            redis.stop()
            redis.start()
        await store.forget("a", lambda _: True)
        await store.close()

    asyncio.run(main())


def test_feedback_stores_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        FeedbackFile(tmp_path / "missing" / "file.jsonl", folder=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        FeedbackFile(tmp_path / "file", folder=True)
    with pytest.raises(UsageError, match="--feedback contains a password"):
        Settings(tmp_path, feedback="redis://:secret@host/0")


def test_explored_items_are_marked_and_reported(service: Running) -> None:
    body = {"session": ["sku-11"], "k": 10, "explore": 0.4, "reasons": True}
    answer = good(service.ask("POST", "/v1/recommend", body))
    explored = [item for item, is_explored in zip(answer["items"], answer["explored"], strict=True) if is_explored]
    assert [reason.get("rule") == "explored" for reason in answer["reasons"]] == answer["explored"]
    assert "explored" not in good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}))
    report(service, recommendation=answer["recommendation"], shown=answer["items"], explored=explored)
    lines = kept_in(Path(service.option("--feedback")))
    kept = [line for line in lines if line["recommendation"] == answer["recommendation"]]
    assert [line["items"] for line in kept if line["what"] == "explored"] == [explored] * bool(explored)
    for wrong in (1.5, -1, "x"):
        refused(service.ask("POST", "/v1/recommend", {**body, "explore": wrong}), 400, "invalid_request")


def test_a_service_explores_by_itself(text_bundle: Path) -> None:
    with running(text_bundle, "--explore-share", "0.5", "--explore-below", "3") as service:
        body = {"session": ["sku-11"], "k": 10}
        counts = [sum(good(service.ask("POST", "/v1/recommend", body))["explored"]) for _ in range(12)]
        batch = good(service.ask("POST", "/v1/recommend/batch", {"sessions": [["sku-12"]], "k": 10}))
        assert len(batch["answers"][0]["explored"]) == 10
        assert max(counts) > 0
        assert "explored" not in good(service.ask("POST", "/v1/recommend", {**body, "explore": 0}))
        service.assert_no_error()


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
        polars = pytest.importorskip("polars")
        frame = polars.read_ndjson(tmp_path / "kept" / "rankings-*.jsonl")
        assert frame["items"].dtype == polars.List(polars.String)


def test_forgetting_that_was_killed_leaves_no_copy_of_other_sessions(tmp_path: Path) -> None:
    store = FeedbackFile(tmp_path / "kept.jsonl", folder=False)
    for session in ("s-1", "s-2", "s-3"):
        store._append(b'{"session":"%b","items":[]}' % session.encode(), RANKINGS)

    def killed() -> None:
        os.fsync = lambda _: os._exit(0)  # type: ignore[assignment]
        store._forget("s-1", lambda _: False)

    assert child(killed) == 0
    for session in ("s-1", "s-2"):
        store._forget(session, lambda _: False)
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"", b'{"session":"s-3","items":[]}\n'}


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
