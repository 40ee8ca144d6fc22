"""Replicas that are rolled, killed and scaled under load, and those that must not serve. Long forms: mark `ray`."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
import pytest

from mtaw_fast.cli import main
from mtaw_fast.errors import BundleError, MissingPackageError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.integrations import ray_serve
from mtaw_fast.integrations.ray_serve import ReplicaError, Scaling, deploy, health, undeploy
from mtaw_fast.integrations.replica_registry import ReplicaCounters, ReplicaRegistry, Report, registry_of
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.observability.counters import KINDS
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Settings
from tests.support.integrations.nodes import kill_node, second_node
from tests.support.integrations.processes import command
from tests.support.integrations.replicas import Deployed, Replicas, free_port
from tests.support.random_bundle import save_random
from tests.support.redis_server import Redis
from tests.support.service.running import Client, Reply, ask_on, eventually

_SETTLING = 0.05  # seconds in which a request that is being sent may still reach a process that was just killed


@dataclass(frozen=True)
class Failure:
    """A request that was not answered with 200. began, ended: on time.monotonic's clock. why: the answer or error."""

    began: float
    ended: float
    why: str


@dataclass
class Load:
    """Clients that ask without a pause, from `with` to its end.

    known: a recommender for every version that may answer. Half of the clients ask for sessions that they send whole,
    the others click in sessions that the service keeps, where it does.
    """

    service: Client
    known: Mapping[str, Recommender]
    clients: int = 6
    clicks: bool = True
    answers: int = 0
    failures: list[Failure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    _name: str = field(default_factory=lambda: secrets.token_hex(4))  # of its sessions, which outlive it in Redis
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def unexplained(self, kills: list[float]) -> list[Failure]:
        """Failures of requests that were not under way when a replica was killed."""
        return [
            failure
            for failure in self.failures
            if not any(failure.began <= kill + _SETTLING and failure.ended >= kill for kill in kills)
        ]

    def _run(self, number: int) -> None:
        rng, clicking = np.random.default_rng(number), self.clicks and number % 2 == 1
        session: list[Any] = []
        connection = self.service.connect()
        visit = 0
        while not self._stop.is_set():
            items = [f"sku-{item}" for item in rng.integers(10, 60, 1 if clicking else rng.integers(1, 9))]
            path = f"/v1/sessions/{self._name}-{number}-{visit}/click" if clicking else "/v1/recommend"
            began = time.monotonic()
            try:
                body = {"items" if clicking else "session": items, "k": 10}
                reply = ask_on(connection, "POST", self.service.prefix + path, body)
                reason = None if reply.status == 200 else f"{reply.status} {reply.body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                reason, reply = repr(error), None
                connection.close()
                connection = self.service.connect()
            session = [*session, *items] if clicking else items
            if reason is not None or reply is None:
                with self._lock:
                    self.failures.append(Failure(began, time.monotonic(), str(reason)))
                visit, session = visit + 1, []  # unknown whether the click was stored, so use another session
                continue
            self._check(reply, session, clicking)
            if len(session) >= 30:
                visit, session = visit + 1, []
        with contextlib.suppress(OSError):
            connection.close()

    def _check(self, reply: Reply, session: list[Any], clicking: bool) -> None:
        answer = reply.json
        out = self.known[answer["version"]].recommend(session, 10)
        right = answer["items"] == out.items and answer["scores"] == out.scores.tolist()
        right = right and answer.get("clicks", len(session)) == len(session)
        with self._lock:
            self.answers += 1
            self.versions.add(answer["version"])
            if not right:
                self.wrong.append(f"{answer['version']}: {len(session)} clicks, {answer.get('clicks')} kept")


_NOTICED = 30.0  # seconds after which Serve sends nothing to a node that has died


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two, with the same ids."""
    folders = [tmp_path_factory.mktemp("replicas") / f"bundle-{seed}" for seed in range(2)]
    for seed, folder in enumerate(folders):
        save_random(folder, seed=seed, embedding_dim=24)
    return folders


@pytest.fixture(scope="module")
def service(text_service: Replicas) -> Replicas:
    """Two replicas with sessions in Redis."""
    return text_service


@pytest.fixture(scope="module")
def known(bundles: list[Path], text_bundle: Path) -> dict[str, Recommender]:
    """What each version must answer."""
    return {ray_serve.current_version(folder): Recommender.load(folder) for folder in (*bundles, text_bundle)}


def rolled_and_killed(
    service: Replicas, bundles: list[Path], known: dict[str, Recommender], rolls: int, kills: int
) -> Load:
    """Roll so often, and kill a replica after each of the first `kills` rolls, under load; what the clients saw."""
    killed: list[float] = []
    with Load(service, known) as load:
        for roll in range(rolls):
            service.roll(bundles[(roll + 1) % 2])
            if roll < kills:
                victim = service.processes()[0]
                killed.append(time.monotonic())
                victim.kill()
                eventually(lambda victim=victim: victim not in (now := service.processes()) and len(now) == 2, 60)
    assert load.unexplained(killed) == []
    assert len(load.failures) <= kills * load.clients  # a client has one request under way
    assert load.wrong == []
    assert len(load.versions) >= 2
    assert load.answers > 100 * rolls
    service.assert_no_error()
    return load


def test_a_roll_and_a_killed_replica_under_load(
    service: Replicas, bundles: list[Path], known: dict[str, Recommender]
) -> None:
    rolled_and_killed(service, bundles, known, rolls=1, kills=1)


@pytest.mark.ray
def test_ten_rolls_and_three_killed_replicas_under_load(
    service: Replicas, bundles: list[Path], known: dict[str, Recommender]
) -> None:
    load = rolled_and_killed(service, bundles, known, rolls=10, kills=3)
    print(f"{load.answers} answers, {len(load.failures)} under way on killed replicas")


def test_replicas_of_a_machine_share_one_bundle(service: Replicas) -> None:
    copies = [_held_files(process) for process in service.processes()]
    assert copies[0]
    assert copies[0] == copies[1]


def _held_files(process: psutil.Process) -> set[tuple[str, int]]:
    """The bundle's sealed copies that a process has open: name and inode, which two copies would not share."""
    copies = set()
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        name = str(link.readlink())
        if name.startswith("/memfd:mtaw-") and "counters" not in name:
            copies.add((name, link.stat().st_ino))
    return copies


def test_metrics_are_those_of_all_replicas(service: Replicas) -> None:
    before = service.metric('mtaw_requests_total{route="/v1/similar",status="200"}')
    for _ in range(20):
        assert service.ask("GET", "/v1/similar?item=sku-11").status == 200
    series = 'mtaw_requests_total{route="/v1/similar",status="200"}'
    eventually(lambda: service.metric(series) == before + 20)
    eventually(lambda: service.metric(f'mtaw_workers{{version="{service.version}"}}') == 2)


def test_without_redis_sessions_are_a_503_and_the_rest_goes_on(service: Replicas, redis_server: Redis) -> None:
    assert service.ask("POST", "/v1/sessions/away/click", {"items": ["sku-11"]}).json["clicks"] == 1
    redis_server.stop()
    try:
        for _ in range(4):
            reply = service.ask("POST", "/v1/sessions/away/click", {"items": ["sku-11"]})
            assert (reply.status, reply.code) == (503, "sessions_unavailable")
            assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        service.assert_no_error()
    finally:
        redis_server.start()
    eventually(lambda: service.ask("POST", "/v1/sessions/away/click", {"items": ["sku-11"]}).status == 200)


def test_a_registry_that_dies_is_started_again(service: Replicas, ray_here: Any) -> None:
    ray_here.kill(registry_of(ray_here, service.name))
    assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
    eventually(lambda: len(health(service.name).replicas) == 2)
    service.assert_no_error()


def test_it_listens_where_it_was_told(service: Replicas) -> None:
    listening = {
        link.laddr.ip for link in psutil.net_connections("tcp") if link.laddr.port == service.port and not link.raddr
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.ray
def test_a_machine_with_another_bundle_is_told(
    service: Replicas, bundles: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The driver reads the bundle on one host, the replicas start on another: the test changes the driver's version."""
    before = service.version
    shutil.copytree(bundles[1], tmp_path / "bundle")
    monkeypatch.setattr(ray_serve, "current_version", lambda _: "0" * 16)
    with pytest.raises(ReplicaError, match=r"holds bundle [0-9a-f]{16}, not 0{16}") as caught:
        service.roll(tmp_path / "bundle")
    assert "\n" not in str(caught.value)
    assert "the old ones continue (2)" in str(caught.value)
    assert service.ask("GET", "/v1/bundle").json["version"] == before
    monkeypatch.undo()
    service.roll(tmp_path / "bundle")
    service.assert_no_error()


def test_mixed_versions_are_named() -> None:
    clock = [0.0]
    registry = ReplicaRegistry(lambda: clock[0])
    for replica, version in (("a", "1" * 16), ("b", "2" * 16)):
        registry.exchange(Report(replica, "box", 1, version, 0, (1, 2)))
    problem = ray_serve.Health("RUNNING", registry.present()).problem
    assert problem is not None
    assert "replicas of mixed bundle versions" in problem
    assert "a on box 1111111111111111, b on box 2222222222222222" in problem
    clock[0] = 9.0  # one that reports no more counts as gone, what it counted stays
    answer = registry.exchange(Report("b", "box", 1, "2" * 16, 0, (1, 2)))
    assert (answer.counts, answer.versions) == ((1, 2), ())
    assert ray_serve.Health("RUNNING", registry.present()).problem is None
    for number in range(50):  # thousands come and go under autoscaling: what they counted is one sum after an hour
        clock[0] += 1800
        answer = registry.exchange(Report(f"c{number}", "box", 1, "2" * 16, 0, (1, 2)))
    assert answer.counts == (51, 102)
    assert len(registry._reports) <= 3
    assert "UNHEALTHY" in str(ray_serve.Health("UNHEALTHY", registry.present()).problem)


def kinds(**counts: int) -> list[int]:
    return [counts.get(kind, 0) for kind in KINDS]


def test_counts_by_bundle_version_add_up_over_replicas_and_outlive_them() -> None:
    clock = [0.0]
    registry = ReplicaRegistry(lambda: clock[0])
    first, second = "1" * 16, "2" * 16
    counters = ReplicaCounters()
    counts = counters.own_counts()
    registry.exchange(Report("a", "box", 1, first, 0, counts, {first: kinds(answers=1, shown=10, clicked=2)}))
    clock[0] = 9.0
    metrics = Metrics(counters, 0)
    metrics.serve(second)
    metrics.count_by_version(second, "shown", 4)
    metrics.count_first_by_version(first, {"clicked": 1})  # nobody has caught yet that it was served
    counters.others = registry.exchange(Report("b", "box", 2, second, 0, counts, counters.own_by_version()))
    metrics.count_first_by_version(first, {"clicked": 3})
    assert counters.by_version() == {
        first: kinds(answers=1, shown=10, clicked=5), second: kinds(shown=4), "other": kinds(clicked=1),
    }  # fmt: skip
    assert f'mtaw_feedback_items_total{{version="{first}",what="clicked"}} 5' in metrics.text()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"sessions": "memory"}, "redis://"), ({"sessions_password": "x"}, "MTAW_REDIS_PASSWORD"),
        ({"token": "x"}, "deploy again"), ({"workers": 2}, "Scaling"), ({"port": 1}, "listens on 127.0.0.1"),
        ({"side_by_side": ((Path("a"), 1.0), (Path("b"), 1.0))}, "side by side"),
    ],
)  # fmt: skip
def test_settings_that_replicas_cannot_have(
    service: Replicas, bundles: list[Path], changed: dict[str, Any], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        deploy(dataclasses.replace(Settings(bundles[0], port=service.port), **changed), name="never")


def test_what_is_no_bundle_is_not_deployed(service: Replicas, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        deploy(Settings(tmp_path / "none", port=service.port), name="never")
    with pytest.raises(UsageError, match="nothing is deployed as 'never'"):
        health("never")
    with pytest.raises(UsageError, match="least"):
        Scaling(3, 2)


@pytest.mark.ray
def test_what_cannot_be_deployed_leaves_nothing(service: Replicas, tmp_path: Path, bundles: list[Path]) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(bundles[0], damaged)
    weights = next(damaged.glob("weights*"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")  # what only a replica looks at
    with pytest.raises(ReplicaError, match="weights") as caught:
        deploy(Settings(damaged, port=service.port), Scaling(cpus=0.01), name="never", prefix="/never")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="nothing is deployed as 'never'"):
        health("never")


def test_without_the_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch, bundles: list[Path]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("ray"))):
        deploy(Settings(bundles[0]))


@pytest.mark.ray
def test_replicas_come_and_go_with_the_load(ray_here: Any, serve_port: int, bundles: list[Path]) -> None:
    settings = Settings(bundles[0], port=serve_port)
    version = deploy(settings, Scaling(1, 3, queue=1, up=0.5, down=2, cpus=0.01), name="scaled", prefix="/scaled")
    service = Deployed(serve_port, "scaled", "/scaled")
    try:
        assert len(service.processes()) == 1
        with Load(service, {version: Recommender.load(bundles[0])}, clients=12, clicks=False) as load:
            eventually(lambda: len(service.processes()) >= 2, 60)
        eventually(lambda: len(service.processes()) == 1, 90)
        assert (load.failures, load.wrong) == ([], [])
    finally:
        undeploy("scaled")


@pytest.mark.ray
def test_replicas_outlive_the_process_that_deployed_them(ray_here: Any, serve_port: int, bundles: list[Path]) -> None:
    script = (
        "import os, sys, ray; from pathlib import Path; from mtaw_fast.integrations.ray_serve import *\n"
        "ray.init(sys.argv[1], logging_level='ERROR')\n"
        "deploy(Settings(Path(sys.argv[2]), port=int(sys.argv[3])), Scaling(cpus=0.01), name='left', prefix='/left')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    address = ray_here.get_runtime_context().gcs_address
    ended = subprocess.run(
        [sys.executable, "-c", script, address, bundles[0], str(serve_port)], check=False, timeout=90
    )
    assert ended.returncode == -9
    service = Deployed(serve_port, "left", "/left")
    try:
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        time.sleep(3)
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        service.assert_no_error()
    finally:
        undeploy("left")


@pytest.mark.ray
def test_the_command_serves_rolls_and_stops(bundles: list[Path], tmp_path: Path) -> None:
    shutil.copytree(bundles[0], tmp_path / "bundle")
    port, log = free_port(), tmp_path / "log"
    with log.open("wb") as stream:
        running = subprocess.Popen(
            command(
                "serve", tmp_path / "bundle", "--ray", "--replicas", "1..2", "--replica-cpus", "0.1", "--port", port
            ),
            stderr=stream,
        )
    try:
        eventually(lambda: b'"ready"' in log.read_bytes(), 120)
        service = Deployed(port, "mtaw-fast", "")
        before = service.ask("GET", "/v1/bundle").json["version"]
        for file in bundles[1].iterdir():  # the manifest is the last to come
            if file.name != "manifest.json":
                shutil.copy(file, tmp_path / "bundle")
        shutil.copy(bundles[1] / "manifest.json", tmp_path / "new.json")
        (tmp_path / "new.json").replace(tmp_path / "bundle" / "manifest.json")
        eventually(lambda: b'"rolled"' in log.read_bytes(), 90)
        assert service.ask("GET", "/v1/bundle").json["version"] not in (None, before)
        (tmp_path / "bundle" / "manifest.json").write_text("{")
        eventually(lambda: b'"roll_refused"' in log.read_bytes(), 60)
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
    finally:
        running.terminate()
    assert running.wait(60) == 0
    lines = log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines), lines


def test_a_number_of_replicas_that_is_none_is_refused(bundles: list[Path], capsys: pytest.CaptureFixture) -> None:
    assert main(["serve", str(bundles[0]), "--ray", "--replicas", "few"]) == 2
    assert "2..8" in capsys.readouterr().err


@pytest.mark.ray
def test_replicas_on_a_node_that_dies_are_started_on_another(
    ray_here: Any, serve_port: int, bundles: list[Path]
) -> None:
    """Each replica needs most of a node's processors, so that one is here and the other on the second node."""
    scaling = Scaling(2, 2, cpus=6)
    with second_node(ray_here, "spare", cpus=6) as node:
        version = deploy(Settings(bundles[0], port=serve_port), scaling, name="two", prefix="/two", patience=90)
        service = Deployed(serve_port, "two", "/two")
        try:
            on_node = {process.pid for process in psutil.Process(node.pid).children(recursive=True)}
            survivor, victim = sorted(service.processes(), key=lambda process: process.pid in on_node)
            assert (survivor.pid in on_node, victim.pid in on_node) == (False, True)
            with Load(service, {version: Recommender.load(bundles[0])}, clients=4, clicks=False) as load:
                eventually(lambda: load.answers > 200, 60)
                killed, before = time.monotonic(), load.answers
                kill_node(node)
                # Ray still counts the node as alive for a while; meanwhile the other replica answers.
                eventually(lambda: load.answers > before + 500, 90)
                eventually(lambda: _present("two") == [survivor.pid], 120)
                with second_node(ray_here, "spare", cpus=6):
                    eventually(lambda: len(_present("two")) == 2, 180)
                    service.assert_no_error()
                    answers = load.answers
                    eventually(lambda: load.answers > answers + 200, 60)
            assert load.wrong == []
            # Serve finds out by requests that get no answer, so each client may have lost more than one.
            lost = [failure for failure in load.failures if failure.began > killed + _NOTICED]
            assert lost == [], (killed, lost)
            assert load.answers > 10 * len(load.failures)
        finally:
            undeploy("two")


def _present(name: str) -> list[int]:
    """The processes of a deployment's replicas; none while the registry, which may have died too, is made again."""
    try:
        return [replica.pid for replica in health(name).replicas]
    except ReplicaError:
        return []
