"""A new bundle comes in while the old one answers: nothing fails, nothing is mixed, damage is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.snapshot import version_of
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.service.running import WITH_TOKEN, Reply, Running, eventually, running
from tests.support.service.traffic import traffic

SESSIONS = [[f"sku-{i}", f"sku-{(7 * i) % 60}"] for i in range(20)]


def put(folder: Path, seed: int) -> str:
    """Put another bundle into the folder; returns its version."""
    return version_of(save_parts(folder, **bundle_parts(seed=seed), overwrite=True).manifest)


def damage(folder: Path) -> None:
    """Put a bundle into the folder whose catalog is not what its hash says; its manifest comes last, as ever."""
    made = folder.with_name("damaged")
    put(made, 99)
    path = Bundle.load(made).file("catalog")
    assert path is not None
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for part in sorted(made.iterdir(), key=lambda one: one.name == "manifest.json"):
        part.replace(folder / part.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of our own to replace."""
    put(tmp_path / "bundle", 0)
    return tmp_path / "bundle"


@pytest.fixture
def service(folder: Path) -> Iterator[Running]:
    """Two workers that look for a new bundle often."""
    with running(folder, "--reload-interval", "0.05", workers=2, environment={"MTAW_ADMIN_TOKEN": "s3cret"}) as service:
        yield service


def reload(service: Running) -> Reply:
    """The answer to POST /admin/reload."""
    return service.ask("POST", "/admin/reload", headers=WITH_TOKEN)


def all_on(service: Running, version: str) -> bool:
    """Whether both workers serve that version, and no other is served."""
    return service.metric(f'mtaw_workers{{version="{version}"}}') == 2


def test_every_worker_loads_a_new_bundle(service: Running, folder: Path) -> None:
    old = service.ask("GET", "/healthz").version
    new = put(folder, 1)
    assert new != old
    eventually(lambda: all_on(service, new))
    assert service.ask("GET", "/healthz").version == new
    assert service.metric('mtaw_reloads_total{result="loaded"}') == 2
    answer = service.ask("POST", "/v1/recommend", {"session": SESSIONS[0]}).json
    assert answer["items"] == Recommender.load(folder).recommend(SESSIONS[0]).items
    assert {line["version"] for line in service.events("reload")} == {new}


def test_a_replaced_bundle_is_unmapped(folder: Path) -> None:
    with running(folder, "--reload-interval", "0.05") as service:
        (pid,) = service.worker_pids()

        def mapped() -> set[str]:
            """What the copies that the worker has are known by."""
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            return {
                line.split(maxsplit=5)[5] for line in lines if "/memfd:mtaw-" in line and "mtaw-counters" not in line
            }

        first = mapped()

        for seed in range(1, 4):
            new = put(folder, seed)
            eventually(lambda new=new: service.ask("GET", "/healthz").version == new)
            assert service.ask("POST", "/v1/recommend", {"session": SESSIONS[0]}).version == new
        assert first
        eventually(lambda: len(mapped()) == len(first) and not mapped() & first)


def test_on_request_they_look_at_once(folder: Path) -> None:
    with running(folder, "--reload-interval", "3600", workers=2, environment={"MTAW_ADMIN_TOKEN": "s3cret"}) as service:
        new = put(folder, 1)
        reply = reload(service)
        assert (reply.status, reply.json["result"], reply.version, reply.json["version"]) == (200, "loaded", new, new)
        assert reply.json["workers"][new] >= 1
        eventually(lambda: all_on(service, new))
        # Only now: the other worker looks a moment after the answer, and could find the next bundle before it is asked.
        assert reload(service).json["result"] == "unchanged"
        newer = put(folder, 2)
        os.kill(service.process.pid, signal.SIGHUP)
        eventually(lambda: all_on(service, newer))


def test_a_damaged_bundle_is_refused_and_the_old_one_stays(service: Running, folder: Path) -> None:
    old = service.ask("GET", "/healthz").version
    expected = service.ask("POST", "/v1/recommend", {"session": SESSIONS[0]}).json["items"]
    damage(folder)
    eventually(lambda: service.metric('mtaw_reloads_total{result="refused"}') >= 2)
    reply = reload(service)
    assert (reply.status, reply.code, reply.version) == (409, "bundle_refused", old)
    assert "SHA-256" in reply.json["error"]["message"]
    (folder / "manifest.json").unlink()
    assert reload(service).code == "bundle_refused"
    (folder / "manifest.json").write_text("[" * 100_000)
    assert reload(service).code == "bundle_refused"
    assert all_on(service, old)
    assert service.ask("POST", "/v1/recommend", {"session": SESSIONS[0]}).json["items"] == expected
    refused = service.events("reload_refused")
    assert {line["version"] for line in refused} == {old}
    assert any("SHA-256" in line["reason"] for line in refused)
    # A whole one is taken again.
    (folder / "manifest.json").unlink()
    new = put(folder, 3)
    eventually(lambda: all_on(service, new))


def test_a_damaged_bundle_is_not_tried_again_and_again(folder: Path) -> None:
    with running(folder, "--reload-interval", "0.05") as service:
        damage(folder)
        eventually(lambda: service.events("reload_refused"))
        tried = service.metric('mtaw_reloads_total{result="refused"}')
        for _ in range(100):  # many times as long as it takes to look
            service.ask("GET", "/healthz")
        assert service.metric('mtaw_reloads_total{result="refused"}') == tried


@pytest.mark.slow
def test_twenty_reloads_under_load(service: Running, folder: Path) -> None:
    def make(client: int, number: int) -> tuple[str, Any]:
        if client == 0:
            return "/v1/recommend/batch", {"sessions": SESSIONS, "k": 20}
        return "/v1/recommend", {"session": SESSIONS[number % len(SESSIONS)], "k": 20}

    expected = {}

    def note(version: str) -> None:
        rec = Recommender.load(folder)
        expected[version] = {tuple(clicks): rec.recommend(clicks, 20) for clicks in SESSIONS}

    note(service.ask("GET", "/healthz").version)
    with traffic(service, make) as seen:
        for turn in range(1, 21):
            version = put(folder, turn)
            note(version)
            eventually(lambda version=version: all_on(service, version))
    assert len(expected) == 21
    answered: set[str] = set()
    for one in seen:
        assert not one.lost
        assert len(one.replies) > 20
        for asked, reply in one.replies:
            assert reply.status == 200, reply.body
            assert reply.json["version"] == reply.version
            answered.add(reply.version)
            answers = reply.json.get("answers", [reply.json])
            for clicks, answer in zip(asked.get("sessions", [asked.get("session")]), answers, strict=True):
                out = expected[reply.version][tuple(clicks)]
                assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
    assert len(answered) > 10
    assert service.metric('mtaw_reloads_total{result="loaded"}') == 40
    assert service.metric('mtaw_reloads_total{result="refused"}') == 0
