"""The item table and availability over HTTP: in every worker, kept by --learn or --state, and who may read what."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.service.running import WITH_TOKEN, Running, TwoWorkers, ask_on, eventually, good, refused, running

N = 60
TABLE = {
    "items": [{"id": f"sku-{i}", "title": f"Shoe {i}", "cost": i / 2, "stock": i != 7} for i in range(N)],
    "public": ["title"], "availability": "stock",
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    for seed, name in enumerate(("old", "new")):
        save_parts(folder / name, **bundle_parts(n_items=N, seed=seed), **memory_parts(N))
    return folder


@pytest.fixture(scope="module", params=["learn", "state", "splits"])
def service(request: pytest.FixtureRequest, folder: Path) -> Iterator[Running]:
    """Two workers: one that learns, one with a state folder, one with a state folder and two bundles."""
    keeping = ["--learn" if request.param == "learn" else "--state", str(folder / request.param)]
    bundle = folder / "old"
    if request.param == "splits":
        bundle, keeping = Path(f"--bundle={bundle}=50"), ["--bundle", f"{folder / 'new'}=50", *keeping]
    with running(bundle, *keeping, workers=2) as service:
        yield service
        service.assert_no_error()


def change(service: Running, method: str, path: str, body: Any) -> Any:
    return good(service.ask(method, f"/admin/items{path}", body, WITH_TOKEN))


def ranked(connection: Any, **asked: Any) -> Any:
    return good(ask_on(connection, "POST", "/v1/recommend", {"session": ["sku-1", "sku-3"], "k": N} | asked))


def rankings(connection: Any) -> list[list[str]]:
    """Return what every kind of request finds, with both bundles if there are two."""
    ids = [f"visitor-{i}" for i in range(6)]
    lists = [ranked(connection, session_id=visitor)["items"] for visitor in ids]
    lists += [ranked(connection, session_id=visitor, session=["unknown"])["items"] for visitor in ids]
    batch = {"sessions": [["sku-1"], []], "k": N}
    lists += [answer["items"] for answer in good(ask_on(connection, "POST", "/v1/recommend/batch", batch))["answers"]]
    similar = [f"/v1/similar?item=sku-1&k={N}&session_id={visitor}" for visitor in ids]
    return lists + [good(ask_on(connection, "GET", path))["items"] for path in similar]


def test_changes_reach_every_worker_and_nobody_reads_private_columns(service: Running) -> None:
    two = TwoWorkers(service)
    connections = list(two.connections.values())
    before = [rankings(worker) for worker in connections]
    answer = change(service, "PUT", "", TABLE)
    assert (answer["rows"], answer["known"], answer["items"]) == (N, N, N - 1)
    assert [(column["name"], column["kind"], column["public"]) for column in answer["columns"]] == [
        ("title", "text", True), ("cost", "number", False), ("stock", "boolean", False),
    ]  # fmt: skip
    change(service, "POST", "/hide", {"items": ["sku-9", "sku-later"]})
    change(service, "PATCH", "", {"items": [{"id": "sku-2", "title": "Hat"}, {"id": "sku-11", "stock": False}]})
    unavailable = {"sku-7", "sku-9", "sku-11"}
    for connection in connections:
        eventually(lambda link=connection: all(unavailable.isdisjoint(items) for items in rankings(link)))
        assert any("sku-12" in items for items in rankings(connection))
        options = {"session": ["sku-5"], "k": 5, "fields": ["title"], "allow": ["sku-2", "sku-4"]}
        ranking = ranked(connection, **options)
        assert dict(zip(ranking["items"], ranking["fields"], strict=True)) == {
            "sku-2": {"title": "Hat"}, "sku-4": {"title": "Shoe 4"},
        }  # fmt: skip
        similar = good(ask_on(connection, "GET", "/v1/similar?item=sku-1&k=2&fields=title"))
        assert [fields["title"][:4] for fields in similar["fields"]] == ["Shoe", "Shoe"]
        # A private column and one that does not exist are refused alike.
        for path, body in (
            ("/v1/recommend", {"session": ["sku-1"], "fields": ["{}"]}),
            ("/v1/recommend/batch", {"sessions": [["sku-1"]], "fields": ["title", "{}"]}),
        ):
            texts = [
                refused(ask_on(connection, "POST", path, {**body, "fields": [name]}), 400, "unknown_field")
                for name in ("cost", "nope")
            ]
            assert texts[0].replace("cost", "nope") == texts[1]
        refused(ask_on(connection, "GET", "/v1/similar?item=sku-1&fields=cost"), 400, "unknown_field")
        admin_answer = good(ask_on(connection, "POST", "/v1/recommend", options | {"fields": ["cost"]}, WITH_TOKEN))
        assert {"cost": 2.0} in admin_answer["fields"]
        assert good(ask_on(connection, "GET", "/v1/bundle"))["fields"] == ["title"]
    change(service, "POST", "/show", {"items": ["sku-9", "sku-later"]})
    change(service, "PATCH", "", {"items": [{"id": f"sku-{i}", "stock": True} for i in (7, 11)]})
    for connection, earlier in zip(connections, before, strict=True):
        eventually(lambda link=connection, expected=earlier: rankings(link) == expected)
    two.close()


@pytest.mark.parametrize(
    "keeping", ["--learn", pytest.param("--state", marks=pytest.mark.long(caught="here, with --learn"))]
)
def test_a_kill_and_a_restart_keep_changes_and_show_gives_the_ranking_of_before(
    folder: Path, tmp_path: Path, keeping: str
) -> None:
    place = str(tmp_path / "kept")
    with running(folder / "old", keeping, place) as service:
        before = rankings(service.connect())
        change(service, "POST", "/hide", {"items": ["sku-9", "sku-10"]})
        change(service, "PUT", "", TABLE)
        for pid in service.worker_pids():
            os.kill(pid, signal.SIGKILL)
    with running(folder / "old", keeping, place, workers=2) as service:
        assert all({"sku-7", "sku-9", "sku-10"}.isdisjoint(items) for items in rankings(service.connect()))
        change(service, "POST", "/show", {"items": ["sku-9", "sku-10"]})
        change(service, "PATCH", "", {"items": [{"id": "sku-7", "stock": True}]})
        two = TwoWorkers(service)
        for connection in two.connections.values():
            eventually(lambda link=connection, expected=before: rankings(link) == expected)
        two.close()
