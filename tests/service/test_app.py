"""The app in this process, without a server: what a request leaves behind, and how it is counted."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from mtaw_fast.data.session_point import point_of
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.lines import KINDS
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.service.app import make_app, make_service, whole_document
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.observability.metrics import ROUTES, Metrics
from mtaw_fast.service.resources import in_background
from mtaw_fast.service.routes import changes, checks, events, pages, requests
from mtaw_fast.service.settings import Limits, Settings
from mtaw_fast.service.snapshot import Snapshot, load_snapshot
from mtaw_fast.service.state import Service
from tests.support.service.running import ADMIN_TOKEN, eventually

WRONG = [
    {"rules": "a text"},
    {"placement": "two words"},
    {"rules": {"filter": "pricee < 5"}},
    {"rules": {"filter": "1 <"}},
    {"at": 1_764_150_000},
]
Question = tuple[str, str, Any]
Answer = tuple[int, Any]


def asked(questions: list[Question], settings: Settings) -> list[Answer]:
    """Send requests with the token, one after the other, to a service of its own; return status and JSON of each."""
    return asyncio.run(_asked(questions, settings))


async def _asked(questions: list[Question], settings: Settings) -> list[Answer]:
    service = service_of(settings)
    app = make_app(service)
    answers = [await _ask(app, *question) for question in questions]
    closed(service)
    return answers


def service_of(settings: Settings) -> Service:
    metrics = Metrics.open(Metrics.make(1), 1, 0, settings.arms)
    first, *others = [
        Reloader(settings, _loaded(settings, place), None, metrics, place) for place in range(len(settings.served))
    ]
    return make_service(settings, first, metrics, others)


def closed(service: Service) -> None:
    service.queue.close()
    for reloader in service.bundles:
        reloader.snapshot.recommender.close()


def _loaded(settings: Settings, place: int) -> Snapshot:
    folder, name = settings.served[place]
    return load_snapshot(folder, "auto", "auto", settings.learn_at(place), name, settings.state)


async def _ask(app: Any, method: str, path: str, body: Any) -> Answer:
    messages: list[Any] = []
    path, _, query = path.partition("?")

    async def receive() -> Any:
        return {"type": "http.request", "body": b"" if body is None else json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    headers = [
        (b"host", b"localhost"), (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {ADMIN_TOKEN}".encode()),
    ]  # fmt: skip
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query.encode()}
    await app({**scope, "headers": headers, "http_version": "1.1"}, receive, send)
    content_type, content = dict(messages[0]["headers"])[b"content-type"], messages[1]["body"]
    return messages[0]["status"], json.loads(content) if content_type == b"application/json" else content.decode()


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_click_with_a_wrong_option_is_not_stored(text_bundle: Path, wrong: dict[str, Any]) -> None:
    path, body = "/v1/sessions/visit", {"items": ["sku-11"]}
    refused, unknown, stored = asked(
        [("POST", f"{path}/click", body | wrong), ("GET", path, None), ("POST", f"{path}/click", body)],
        Settings(text_bundle, sessions="memory"),
    )
    assert (refused[0], refused[1]["error"]["code"]) == (400, "invalid_request")
    assert (unknown[0], unknown[1]["error"]["code"]) == (404, "unknown_session")
    assert (stored[0], stored[1]["clicks"]) == (200, 1)


def test_an_empty_session_id_is_none(text_bundle: Path, tmp_path: Path) -> None:
    """The hash of an empty text falls into the second bundle."""
    other = tmp_path / "other"
    other.symlink_to(text_bundle)
    settings = Settings(text_bundle, side_by_side=((text_bundle, 0.1), (other, 0.9)))
    assert point_of("") > 0.1
    path = "/v1/similar?item=sku-11"
    answers = asked([("GET", f"{path}&session_id=", None), ("GET", path, None)], settings)
    assert [answer["bundle"] for _, answer in answers] == [text_bundle.name] * 2


def test_an_option_of_an_experiment_that_no_command_line_holds_is_refused(text_bundle: Path, tmp_path: Path) -> None:
    settings = Settings(text_bundle, token=ADMIN_TOKEN, feedback=f"{tmp_path}/kept/")
    (answer,) = asked([("GET", "/admin/experiment?control=%00", None)], settings)
    assert (answer[0], answer[1]["error"]["code"]) == (400, "invalid_request")


def test_a_stop_ends_the_process_that_reads_the_feedback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, started = tmp_path / "program", tmp_path / "started"
    program.write_text(f"#!/bin/sh\necho $$ > {started}.draft && mv {started}.draft {started}\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    service: Any = SimpleNamespace(settings=Settings(tmp_path, feedback=str(tmp_path / "kept.jsonl")))

    async def stopped() -> None:
        reading = asyncio.create_task(pages._read(service, ()))
        await asyncio.to_thread(eventually, started.exists)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        # Before the loop closes: asyncio's own then kills what is left, and uvloop does not.
        await asyncio.to_thread(eventually, lambda: not Path(f"/proc/{int(started.read_text())}").exists())

    asyncio.run(stopped())


def test_a_folder_whose_name_is_not_utf_8_has_metrics(text_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9.bundle")
    folder.symlink_to(text_bundle)
    ((status, text),) = asked([("GET", "/metrics", None)], Settings(folder))
    assert status == 200
    assert 'bundle="caf?.bundle"} 1\n' in text
    with pytest.raises(UsageError, match="rename it"):
        Settings(folder, side_by_side=((folder, 1.0),))


def test_metrics_are_built_once_in_an_interval_and_not_on_the_event_loop(
    text_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = service_of(Settings(text_bundle, metrics_interval=60))
    threads: list[threading.Thread] = []
    text = service.metrics.text
    monkeypatch.setattr(service.metrics, "text", lambda: threads.append(threading.current_thread()) or text())
    app = make_app(service)

    async def many() -> list[Answer]:
        return await asyncio.gather(*(_ask(app, "GET", "/metrics", None) for _ in range(20)))

    answers = asyncio.run(many())
    assert [status for status, _ in answers] == [200] * 20
    assert len({body for _, body in answers}) == len(threads) == 1
    assert threads[0] is not threading.main_thread()
    service.metrics_page._built_at -= 60
    asyncio.run(many())
    assert len(threads) == 2
    closed(service)


def test_every_route_is_counted_by_its_own_name_and_every_list_is_limited() -> None:
    document = msgspec.json.decode(whole_document())
    assert {path.replace("{session_id}", "{id}") for path in document["paths"]} <= set(ROUTES)
    lists = document["components"]["schemas"]["FeedbackRequest"]["properties"]
    assert {lists[kind].get("maxItems") for kind in KINDS} == {Limits().k}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/events", {"events": [{"session": "s-1", "item": "sku-11"}]}),
        ("PUT", "/admin/items", {"items": [{"id": "sku-11", "price": 2}]}),
    ],
    ids=["events", "items"],
)
def test_what_is_stored_during_a_reload_goes_to_the_new_log(
    method: str, path: str, body: Any, memory_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reload closes the old bundle's log just before a thread writes to it."""
    learn = LearningSettings(tmp_path / "learned", fsync=True)
    service = service_of(Settings(memory_bundle, token=ADMIN_TOKEN, learn=learn))
    (reloader,) = service.bundles

    async def after_reload(work: Callable[[], Any]) -> Any:
        for module in (events, changes):
            monkeypatch.setattr(module, "in_background", in_background)
        replaced = reloader.snapshot
        reloader._switch_to(load_snapshot(memory_bundle, "auto", "auto", learn))
        replaced.recommender.close()
        return await in_background(work)

    for module in (events, changes):
        monkeypatch.setattr(module, "in_background", after_reload)
    status, answer = asyncio.run(_ask(make_app(service), method, path, body))
    closed(service)
    assert (status, answer.get("error")) == (200, None)
    assert answer["log_position"]


@pytest.mark.parametrize("path", ["/admin/reload", "/admin/compact"])
def test_a_stop_of_the_service_is_a_documented_answer(path: str, memory_bundle: Path, tmp_path: Path) -> None:
    """Routes that wait are ended by a stop."""
    learn = LearningSettings(tmp_path / "learned")
    service = service_of(Settings(memory_bundle, token=ADMIN_TOKEN, learn=learn))
    app = make_app(service)

    async def stopped() -> Answer:
        asking = asyncio.create_task(_ask(app, "POST", path, None))
        await asyncio.sleep(0)
        service.stopping = True
        asking.cancel()
        return await asking

    status, answer = asyncio.run(stopped())
    closed(service)
    assert (status, answer["error"]["code"]) == (503, "not_ready")
    assert str(status) in msgspec.json.decode(whole_document())["paths"][path]["post"]["responses"]


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("FeedbackRequest", "shown", ["x" * 513]), ("RecommendRequest", "rules", "x" * 513),
        ("EventRequest", "context", {"referrer": 2**63}), ("EventRequest", "context", {str(n): 1 for n in range(9)}),
        ("RulesRequest", "filter", ["x" * 4097]), ("ItemTableRequest", "public", [""]),
    ],
    ids=lambda value: str(value)[:20],
)  # fmt: skip
def test_the_document_limits_what_the_service_refuses(name: str, field: str, value: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    document = msgspec.json.decode(whole_document())
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    errors = jsonschema.Draft202012Validator(schema).iter_errors({field: value})
    assert field in {path for error in errors for path in error.path}
    with pytest.raises(msgspec.ValidationError, match=f"`[$].{field}"):
        msgspec.convert({field: value}, getattr(requests, name))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/recommend", {"session": []}), ("POST", "/v1/recommend/batch", {"sessions": [[]]}),
        ("POST", "/v1/sessions/one/click", {"items": ["sku-1"]}), ("GET", "/v1/similar?item=sku-11", None),
    ],
)  # fmt: skip
def test_rules_are_parsed_behind_the_queue(
    method: str, path: str, body: Any, text_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on the event loop, and not for a request that is refused; a session that is refused is not stored."""
    threads: list[threading.Thread] = []
    parsed = checks.rule_set_of_text
    monkeypatch.setattr(
        checks, "rule_set_of_text", lambda *rest: threads.append(threading.current_thread()) or parsed(*rest)
    )
    service = service_of(Settings(text_bundle, sessions="memory", limits=Limits(queue=2)))
    app, release = make_app(service), threading.Event()
    rules = {"filter": "no_such_column < 1"}
    body = body and body | {"rules": rules}
    path = path if body else f"{path}&rules={quote(json.dumps(rules))}"

    async def main() -> tuple[Answer, Answer, Answer]:
        held = asyncio.create_task(service.queue.run_in_thread(lambda *_: release.wait(5)))
        await asyncio.sleep(0)
        refused = await _ask(app, method, path, body)
        assert not threads
        release.set()
        await held
        return refused, await _ask(app, method, path, body), await _ask(app, "GET", "/v1/sessions/one", None)

    refused, wrong, session = asyncio.run(main())
    counted = service.metrics.text()
    closed(service)
    assert (refused[0], refused[1]["error"]["code"]) == (503, "overloaded")
    assert (wrong[0], wrong[1]["error"]["code"]) == (400, "invalid_request")
    assert "no_such_column" in wrong[1]["error"]["message"]
    assert 'mtaw_rejected_total{reason="overloaded"} 1\n' in counted
    assert threads
    assert threading.main_thread() not in threads
    assert session[0] == 404


@pytest.mark.filterwarnings("error::litestar.exceptions.LitestarDeprecationWarning")
def test_a_worker_that_shuts_down_is_not_ready(text_bundle: Path) -> None:
    service = service_of(Settings(text_bundle))
    app, service.stopping = make_app(service), True
    (status, answer), (healthy, _) = (asyncio.run(_ask(app, "GET", path, None)) for path in ("/readyz", "/healthz"))
    closed(service)
    assert (status, answer["error"]["code"], healthy) == (503, "not_ready", 200)


ADD, REMOVE, TABLE = "/admin/items/add", "/admin/items/remove", "/admin/items"


def test_items_are_added_and_removed_and_a_restart_keeps_them(memory_bundle: Path, tmp_path: Path) -> None:
    settings = Settings(memory_bundle, token=ADMIN_TOKEN, learn=LearningSettings(tmp_path / "learned"))
    ranking = ("POST", "/v1/recommend", {"session": ["new-1", "sku-5"], "k": 60})
    answers = asked(
        [
            ("GET", "/v1/bundle", None),
            ("POST", ADD, {"items": ["new-1", "new-2"], "neighbors": [["sku-1", "sku-2"], ["sku-9"]]}),
            ("POST", ADD, {"items": ["new-3"], "vectors": [[1.0] + [0.0] * 11]}),
            ("POST", REMOVE, {"items": ["sku-5", "new-2"]}),
            ("GET", "/v1/similar?item=new-1&k=50", None), ranking, ("GET", "/v1/items?search=new-", None),
            ("POST", ADD, {"items": ["new-2"], "neighbors": [["sku-9"]]}),  # back again
        ],
        settings,
    )  # fmt: skip
    assert {status for status, _ in answers} == {200}
    bundle, first, second, removed, similar, ranked, found, back = (answer for _, answer in answers)
    assert first["items"] == back["items"] == bundle["items"] + 2
    assert first["log_position"] < second["log_position"] < removed["log_position"]
    for items in (similar["items"], ranked["items"]):
        assert "new-3" in items
        assert not {"sku-5", "new-2"} & set(items)
    assert ranked["unknown"] == []  # a removed item is still known as a click
    assert found["items"] == ["new-1", "new-2", "new-3"]
    (_, bundle), (_, ranked) = asked([("GET", "/v1/bundle", None), ranking], settings)
    assert bundle["items"] == back["items"]
    assert {"new-2", "new-3"} <= set(ranked["items"])


VALID = {"items": ["x"], "neighbors": [["sku-1"]]}


def test_changes_of_items_that_are_refused_change_nothing(memory_bundle: Path, tmp_path: Path) -> None:
    refused: list[tuple[str, str, Any, int, str]] = [
        ("POST", ADD, {"items": []}, 400, "invalid_request"),
        ("POST", ADD, {**VALID, "more": 1}, 400, "invalid_request"),
        ("POST", ADD, {"items": ["x"], "vectors": [["1"]]}, 400, "invalid_request"),
        ("POST", ADD, {"items": ["x"]}, 409, "items_refused"),
        ("POST", ADD, {"items": ["x", "y"], "vectors": [[1.0] * 12, [1.0] * 3]}, 409, "items_refused"),
        ("POST", REMOVE, {"items": ["sku-1", 7]}, 409, "items_refused"),
        ("PATCH", TABLE, {"items": [{"id": "sku-1", "cost": 1}, {"id": "sku-1"}]}, 409, "items_refused"),
        ("PATCH", TABLE, {"items": "sku-1"}, 400, "invalid_request"),
        ("PUT", TABLE, {"items": [{"id": "sku-1"}], "mode": "patch"}, 400, "invalid_request"),
        ("POST", f"{TABLE}/hide", {"items": [7]}, 409, "items_refused"),
        ("POST", f"{TABLE}/show", {"items": []}, 400, "invalid_request"),
    ]  # fmt: skip
    settings = Settings(memory_bundle, token=ADMIN_TOKEN, learn=LearningSettings(tmp_path / "learned"))
    ranking = ("POST", "/v1/recommend", {"session": ["sku-1"]})
    (_, before), *answers, (_, after) = asked([ranking, *(case[:3] for case in refused), ranking], settings)
    assert [(status, answer["error"]["code"]) for status, answer in answers] == [case[3:] for case in refused]
    assert (before["items"], before["log_position"]) == (after["items"], after["log_position"])


@pytest.mark.parametrize(
    ("method", "path", "body", "code"),
    [
        ("DELETE", "/admin/placements/sale", None, "not_kept_here"), ("PUT", TABLE, {"items": []}, "not_kept_here"),
        ("POST", f"{TABLE}/hide", {"items": ["sku-11"]}, "not_kept_here"), ("POST", ADD, VALID, "not_learning"),
        ("POST", REMOVE, {"items": ["sku-11"]}, "not_learning"),
    ],
)  # fmt: skip
def test_a_service_that_keeps_no_changes_says_so(
    text_bundle: Path, method: str, path: str, body: Any, code: str
) -> None:
    ((status, answer),) = asked([(method, path, body)], Settings(text_bundle, token=ADMIN_TOKEN))
    assert (status, answer["error"]["code"]) == (409, code)


def test_every_route_of_operators_needs_the_token(memory_bundle: Path, tmp_path: Path) -> None:
    paths = msgspec.json.decode(whole_document())["paths"]
    routes = [(path, method) for path, methods in paths.items() for method in methods if "security" in methods[method]]
    routes = [(path, method) for path, method in routes if {} not in paths[path][method]["security"]]
    assert {path for path, _ in routes} == {path for path in ROUTES if path.startswith("/admin/")} - {
        "/admin/experiment"
    }
    learn = LearningSettings(tmp_path / "learned")
    settings = Settings(memory_bundle, token="another", learn=learn, feedback=f"{tmp_path}/kept/")
    answers = asked([(method.upper(), path.replace("{name}", "x"), 5) for path, method in routes], settings)
    assert [(status, answer["error"]["code"]) for status, answer in answers] == [(401, "unauthorized")] * len(routes)
