"""Items added and removed over HTTP: only with the token, for every worker, and across restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.recommender import Recommender
from tests.support.service.running import WITH_TOKEN, Running, TwoWorkers, ask_on, eventually, good, refused, running

ADD, REMOVE = "/admin/items/add", "/admin/items/remove"


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the log."""
    return tmp_path_factory.mktemp("items") / "learned"


def serving(bundle: Path, learned: Path, **more: Any) -> Any:
    """Run a service that learns and has a token."""
    return running(bundle, "--learn", str(learned), environment={"MTAW_ADMIN_TOKEN": "s3cret"}, **more)


@pytest.fixture(scope="module")
def service(memory_bundle: Path, learned: Path) -> Iterator[Running]:
    """Two workers."""
    with serving(memory_bundle, learned, workers=2) as service:
        yield service
        service.assert_no_error()


def change(service: Running, path: str, **body: Any) -> Any:
    """Change the catalog; return the answer."""
    return good(service.ask("POST", path, body, WITH_TOKEN))


def similar(connection: Any, item: str) -> Any:
    """Return the items similar to one in one worker; None if the worker does not know it."""
    reply = ask_on(connection, "GET", f"/v1/similar?item={item}&k=50")
    return reply.json["items"] if reply.status == 200 else None


def test_every_worker_sees_changes_and_a_restart_keeps_them(
    service: Running, memory_bundle: Path, learned: Path
) -> None:
    before = good(service.ask("GET", "/v1/bundle"))["items"]
    answer = change(service, ADD, items=["new-1", "new-2"], neighbors=[["sku-1", "sku-2"], ["sku-9"]])
    assert answer["items"] == before + 2
    added = change(service, ADD, items=["new-3"], vectors=[[1.0] + [0.0] * 11])
    removed = change(service, REMOVE, items=["sku-5", "new-2"])
    assert answer["log_position"] < added["log_position"] < removed["log_position"]
    two = TwoWorkers(service)
    for connection in two.connections.values():
        eventually(lambda link=connection: similar(link, "new-3") is not None and "sku-5" not in similar(link, "new-3"))
        items = similar(connection, "new-1")
        assert {"sku-1", "sku-2", "new-3"} <= set(items)
        assert not {"sku-5", "new-2"} & set(items)
        ranked = good(ask_on(connection, "POST", "/v1/recommend", {"session": ["new-1", "sku-5"], "k": 60}))
        assert ranked["unknown"] == []  # a removed item is still known as a click
        assert "new-3" in ranked["items"]
        assert not {"sku-5", "new-2"} & set(ranked["items"])
        assert good(ask_on(connection, "GET", "/v1/items?search=new-"))["items"] == ["new-1", "new-2", "new-3"]
    two.close()
    assert change(service, ADD, items=["new-2"], neighbors=[["sku-9"]])["items"] == before + 2  # back again
    service.stop()
    with serving(memory_bundle, learned) as restarted:
        assert good(restarted.ask("GET", "/v1/bundle"))["items"] == before + 2
        ranked = good(restarted.ask("POST", "/v1/recommend", {"session": ["new-1"], "k": 60}))
        assert {"new-2", "new-3"} <= set(ranked["items"])
        assert "sku-5" not in ranked["items"]
        _refusals(restarted)
        rec = Recommender.load(memory_bundle, learn=learned)
        assert rec.n_items == before + 2
        rec.close()


def _refusals(service: Running) -> None:
    """Check that refused changes have no effect."""
    before = good(service.ask("GET", "/v1/bundle"))["items"]
    valid = {"items": ["x"], "neighbors": [["sku-1"]]}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
        for path in (ADD, REMOVE):
            reply = service.ask("POST", path, valid, headers)
            refused(reply, 401, "unauthorized")
            assert reply.headers["www-authenticate"] == "Bearer"
            refused(service.ask("POST", path, b"{not JSON", headers), 401, "unauthorized")  # before the body is read
    for path, body, code in (
        (ADD, {}, "invalid_request"), (ADD, {"items": []}, "invalid_request"), (ADD, {"items": "x"}, "invalid_request"),
        (ADD, {"items": [""], "neighbors": [["sku-1"]]}, "invalid_request"),
        (ADD, {"items": ["y" * 513], "neighbors": [["sku-1"]]}, "invalid_request"),
        (ADD, {**valid, "more": 1}, "invalid_request"), (ADD, {"items": ["x"]}, "items_refused"),
        (ADD, {"items": ["x"], "vectors": [["1"]]}, "invalid_request"),
        (ADD, {**valid, "vectors": [[1.0] * 12]}, "items_refused"), (ADD, {**valid, "items": [5]}, "items_refused"),
        (ADD, {**valid, "items": ["x", "z"]}, "items_refused"), (ADD, {**valid, "items": ["sku-1"]}, "items_refused"),
        (ADD, {"items": ["x", "x"], "neighbors": [["sku-1"]] * 2}, "items_refused"),
        (ADD, {"items": ["x"], "neighbors": [["nobody"]]}, "items_refused"),
        (ADD, {"items": ["x"], "neighbors": [[]]}, "items_refused"),
        (ADD, {"items": ["x"], "vectors": [[0.0] * 12]}, "items_refused"),
        (ADD, {"items": ["x"], "vectors": [[1.0] * 3]}, "items_refused"),
        (ADD, {"items": ["x", "y"], "vectors": [[1.0] * 12, [1.0] * 3]}, "items_refused"),
        (REMOVE, {"items": ["nobody"]}, "items_refused"), (REMOVE, {"items": ["sku-1", 7]}, "items_refused"),
        (REMOVE, {"items": []}, "invalid_request"), (REMOVE, {"items": [None]}, "invalid_request"),
    ):  # fmt: skip
        refused(service.ask("POST", path, body, WITH_TOKEN), 409 if code == "items_refused" else 400, code)
    huge = b'{"items": ["x"], "vectors": [[1e999' + b", 1.0" * 11 + b"]]}"
    assert service.ask("POST", ADD, huge, WITH_TOKEN).status == 400
    assert good(service.ask("GET", "/v1/bundle"))["items"] == before
    assert np.isfinite(good(service.ask("POST", "/v1/recommend", {"session": ["sku-1"]}))["scores"]).all()


def test_a_service_that_does_not_learn_says_what_it_needs(text_service: Running) -> None:
    for path in (ADD, REMOVE):
        reply = text_service.ask("POST", path, {"items": ["sku-11"]}, WITH_TOKEN)
        assert "--learn" in refused(reply, 409, "not_learning")
    assert "sku-11" in good(text_service.ask("GET", "/v1/items?search=sku-11"))["items"]
