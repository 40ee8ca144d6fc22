"""Reloads: no request fails, no answer mixes two bundles, and damaged bundles are refused."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.versions import version_of
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.snapshot import load_snapshot
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.service.running import WITH_TOKEN, Reply, Running, eventually, refused, running, traffic

SESSIONS = [[f"sku-{i}", f"sku-{(7 * i) % 60}"] for i in range(20)]


def put(folder: Path, seed: int) -> str:
    return version_of(save_parts(folder, **bundle_parts(seed=seed), overwrite=True).manifest)


def damage(folder: Path) -> None:
    """Put a bundle into the folder whose catalog does not match its hash; the manifest comes last, as in a save."""
    damaged = folder.with_name("damaged")
    put(damaged, 99)
    path = Bundle.load(damaged).file("catalog")
    assert path is not None
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for part in sorted(damaged.iterdir(), key=lambda file: file.name == "manifest.json"):
        part.replace(folder / part.name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reload") / "bundle"
    put(folder, 0)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with running(folder, "--reload-interval", "0.05", workers=2) as service:
        yield service


def reload(service: Running) -> Reply:
    return service.ask("POST", "/admin/reload", headers=WITH_TOKEN)


def reloads(service: Running, result: str) -> float:
    return service.metric(f'mtaw_reloads_total{{result="{result}"}}')


def all_on(service: Running, version: str) -> bool:
    """Return whether both workers serve that version, and no other is served."""
    return service.metric(f'mtaw_workers{{version="{version}"}}') == 2


def mapped(pid: int) -> set[str]:
    """Return the copies of bundle files that a worker has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {line.split(maxsplit=5)[5] for line in lines if "/memfd:mtaw-" in line and "mtaw-counters" not in line}


def test_every_worker_loads_a_new_bundle_and_unmaps_the_old_one(service: Running, folder: Path) -> None:
    before = {pid: mapped(pid) for pid in service.worker_pids()}
    for seed in range(1, 4):
        old = service.ask("GET", "/healthz").version
        new = put(folder, seed)
        assert new != old
        eventually(lambda new=new: all_on(service, new))
    eventually(lambda: reloads(service, "loaded") == 6)  # counted once the old bundle is closed
    assert service.ask("GET", "/healthz").version == new
    answer = service.ask("POST", "/v1/recommend", {"session": SESSIONS[0]}).json
    assert answer["items"] == Recommender.load(folder).recommend(SESSIONS[0]).items
    for pid, first in before.items():
        assert first
        eventually(lambda pid=pid, first=first: len(mapped(pid)) == len(first) and not mapped(pid) & first)


def test_a_requested_reload_happens_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    put(folder, 0)
    with running(folder, "--reload-interval", "3600", workers=2) as service:
        new = put(folder, 1)
        reply = reload(service)
        assert (reply.status, reply.json["result"], reply.version, reply.json["version"]) == (200, "loaded", new, new)
        assert reply.json["workers"][new] >= 1
        # Wait for both: a worker that is asked later could load the next bundle before its own request.
        eventually(lambda: all_on(service, new))
        assert reload(service).json["result"] == "unchanged"
        newer = put(folder, 2)
        os.kill(service.process.pid, signal.SIGHUP)
        eventually(lambda: all_on(service, newer))


def test_a_damaged_bundle_is_refused_once_and_the_old_one_stays(service: Running, folder: Path) -> None:
    old = service.ask("GET", "/healthz").version
    expected = service.ask("POST", "/v1/recommend", {"session": SESSIONS[0]}).json["items"]
    damage(folder)
    eventually(lambda: reloads(service, "refused") == 2)
    for _ in range(100):  # much longer than the interval of the checks
        service.ask("GET", "/healthz")
    assert reloads(service, "refused") == 2
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
    (folder / "manifest.json").unlink()
    new = put(folder, 4)
    eventually(lambda: all_on(service, new))


@pytest.mark.parametrize("part", ["weights", "catalog", "items", "popularity", "scan"])
def test_a_changed_byte_of_the_served_bundle_is_refused(service: Running, folder: Path, part: str) -> None:
    """With the same manifest: the workers have copies, but the next one to start would not."""
    assert reload(service).json["result"] == "unchanged"
    version = service.ask("GET", "/healthz").version
    path = Bundle.load(folder).file(part)
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    reply = reload(service)
    assert "SHA-256" in refused(reply, 409, "bundle_refused")
    assert (path.name in reply.json["error"]["message"], reply.version) == (True, version)
    path.write_bytes(content)
    assert reload(service).json["result"] == "unchanged"


def test_a_signal_has_a_changed_byte_logged(service: Running, folder: Path) -> None:
    path = Bundle.load(folder).file("weights")
    assert path is not None
    content, before = path.read_bytes(), len(service.events("reload_refused"))
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.kill(service.process.pid, signal.SIGHUP)
    eventually(lambda: len(service.events("reload_refused")) > before)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.long(caught="here, with 4"))])
def test_reloads_under_load(service: Running, folder: Path, count: int) -> None:
    def make(client: int, number: int) -> tuple[str, Any]:
        if client == 0:
            return "/v1/recommend/batch", {"sessions": SESSIONS, "k": 20}
        return "/v1/recommend", {"session": SESSIONS[number % len(SESSIONS)], "k": 20}

    expected = {}

    def note(version: str) -> None:
        rec = Recommender.load(folder)
        expected[version] = {tuple(clicks): rec.recommend(clicks, 20) for clicks in SESSIONS}

    note(service.ask("GET", "/healthz").version)
    loaded, refused = reloads(service, "loaded"), reloads(service, "refused")
    with traffic(service, make) as records:
        for seed in range(11, 11 + count):
            version = put(folder, seed)
            note(version)
            eventually(lambda version=version: all_on(service, version), 60)
    assert len(expected) == 1 + count
    answered: set[str] = set()
    for record in records:
        assert not record.lost
        assert len(record.replies) > count
        for body, reply in record.replies:
            assert reply.status == 200, reply.body
            assert reply.json["version"] == reply.version
            answered.add(reply.version)
            answers = reply.json.get("answers", [reply.json])
            for clicks, answer in zip(body.get("sessions", [body.get("session")]), answers, strict=True):
                out = expected[reply.version][tuple(clicks)]
                assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
    assert len(answered) > count // 2
    assert (reloads(service, "loaded"), reloads(service, "refused")) == (loaded + 2 * count, refused)


def test_a_learning_bundle_that_is_replaced_while_it_is_loaded_has_its_own_version(
    memory_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(memory_bundle, folder)
    load = Recommender.load
    loads: list[Recommender] = []

    def load_late(*arguments: Any, **options: Any) -> Recommender:
        if not loads:
            save_parts(folder, **bundle_parts(seed=5), **memory_parts(seed=5), overwrite=True)
        loads.append(load(*arguments, **options))
        return loads[-1]

    monkeypatch.setattr(Recommender, "load", load_late)
    snapshot = load_snapshot(folder, "auto", "auto", LearningSettings(tmp_path / "learned", compact=False))
    snapshot.recommender.close()
    assert snapshot.version == version_of(snapshot.recommender.bundle.manifest)
    assert len(loads) == 2
