"""How the supervisor handles workers that die again and again, or stop responding."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.errors import MtawError
from mtaw_fast.service import supervisor
from mtaw_fast.service.observability.counters import HEARTBEAT
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Settings
from tests.support.service.running import eventually, refused, running

SOON = (
    "import sys, mtaw_fast.service.supervisor as one; from mtaw_fast.cli import main; "
    "one._CHECK_INTERVAL, one._SILENT_CHECKS = 0.1, 15; sys.exit(main(sys.argv[1:]))"
)


class Process:
    pid, exitcode = 4711, -9

    def __init__(self) -> None:
        self.alive, self.kills = True, 0

    def is_alive(self) -> bool:
        return self.alive

    def join(self) -> None:
        assert not self.alive

    def kill(self) -> None:
        self.kills += 1


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Supervised:
    """A supervisor of one fake worker, with a clock that the test sets."""

    def __init__(self, bundle: Path, clock: Clock) -> None:
        counters = Metrics.make(1)
        self.clock, self.own = clock, Metrics.open(counters, 1, 0).counters.own
        self.supervisor: Any = supervisor._Supervisor(Settings(bundle), socket.socket(), counters, None)
        self.supervisor._announced = True

    def start(self, failures: int, up: bool) -> supervisor._Worker:
        """Replace the worker. up: whether the new one takes requests already."""
        process: Any = Process()
        worker = supervisor._Worker(0, process, Pipe()[0], failures)
        self.supervisor._workers[0] = worker
        if up:
            self.supervisor._is_up(worker, "0123456789abcdef")
        return worker

    def dies(self) -> tuple[float, int]:
        """Let the worker die; return the seconds until its replacement starts, and the failures so far."""
        self.supervisor._workers[0].process.alive = False
        self.supervisor._reap()
        due, failures = self.supervisor._restarts.pop(0)
        return due - self.clock.now, failures


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervised]:
    clock = Clock()
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=clock.monotonic))
    started = Supervised(tmp_path, clock)
    yield started
    started.supervisor._listener.close()


@pytest.mark.parametrize("up", [False, True])
def test_repeated_deaths_slow_down_restarts(supervised: Supervised, up: bool) -> None:
    waits, failures = [], 0
    for _ in range(1500):
        supervised.start(failures, up)
        wait, failures = supervised.dies()
        waits.append(wait)
    assert waits == sorted(waits)
    assert waits[:3] == pytest.approx([0.2, 0.4, 0.8])
    assert waits[-1] == 5.0


def test_failures_are_reset_once_a_worker_was_up_for_a_while(supervised: Supervised) -> None:
    supervised.start(failures=7, up=True)
    supervised.clock.now += 60
    assert supervised.dies() == (0.0, 0)
    supervised.start(failures=0, up=False)
    supervised.clock.now += 60  # a slow start is no life
    assert supervised.dies() == (pytest.approx(0.2), 1)


def test_a_replacement_without_a_process_is_tried_again(
    supervised: Supervised, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    errors = [OSError(errno.EAGAIN, "Resource temporarily unavailable")] * 2

    def start(_: Process) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(supervisor._SPAWN, "Process", lambda **_: SimpleNamespace(start=lambda: start(Process())))
    over, waits = supervised.supervisor, []
    over._schedule(0, 0)
    while over._restarts:
        supervised.clock.now = over._restarts[0][0]
        over._restart()
        waits += [due - supervised.clock.now for due, _ in over._restarts.values()]
    assert waits == pytest.approx([0.2, 0.4])
    assert over._workers[0].failures == 2
    failed = [record for record in caplog.records if record.message == "worker_failed"]
    assert [record.fields["reason"] for record in failed] == ["Resource temporarily unavailable"] * 2  # type: ignore[attr-defined]


def test_an_error_that_ends_the_command_is_not_logged_too(
    supervised: Supervised, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = Pipe()
    supervised.start(failures=0, up=False).messages = ours
    for announced in (False, True):
        supervised.supervisor._announced = announced
        theirs.send(("failed", "no bundle"))
        with nullcontext() if announced else pytest.raises(MtawError, match=r"^no bundle$"):
            supervised.supervisor._read_messages()
        assert sum(record.message == "worker_failed" for record in caplog.records) == announced


@pytest.mark.parametrize(("up", "beats", "kills"), [(True, 1, 0), (True, 29, 0), (True, 31, 1), (False, 200, 0)])
def test_a_worker_that_is_up_is_killed_without_a_heartbeat(
    supervised: Supervised, up: bool, beats: int, kills: int
) -> None:
    """It has a heartbeat every so many checks."""
    worker = supervised.start(failures=0, up=up)
    for look in range(60):
        supervised.own[HEARTBEAT] += look % beats == 0
        supervised.supervisor._kill_silent()
    assert min(worker.process.kills, 1) == kills  # type: ignore[attr-defined]


def test_a_stuck_worker_is_replaced(text_bundle: Path) -> None:
    with running(text_bundle, python=["-c", SOON]) as service:
        (stuck,) = service.worker_pids()
        os.kill(stuck, signal.SIGSTOP)
        eventually(lambda: any(line["worker_pid"] == stuck for line in service.events("worker_silent")), 60)
        eventually(lambda: service.worker_pids() - {stuck}, 60)
        assert stuck not in service.worker_pids()
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200


def test_a_worker_that_cannot_start_again_leaves_the_others_at_work(tmp_path: Path, text_bundle: Path) -> None:
    folder = tmp_path / "bundle"
    folder.symlink_to(text_bundle)
    with running(folder, "--reload-interval", "3600", workers=2) as service:
        folder.unlink()
        victim = min(service.worker_pids())
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: len(service.events("worker_failed")) >= 2)  # and so tried again
        assert "mtaw-fast train" in service.events("worker_failed")[0]["reason"]
        assert service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}).status == 200
        folder.symlink_to(text_bundle)
        eventually(lambda: len(service.worker_pids()) == 2)


def test_without_a_worker_that_can_start_clients_get_a_503(tmp_path: Path, text_bundle: Path) -> None:
    folder = tmp_path / "bundle"
    folder.symlink_to(text_bundle)
    with running(folder, "--reload-interval", "3600") as service:
        version = service.ask("GET", "/healthz").version
        folder.unlink()
        (victim,) = service.worker_pids()
        os.kill(victim, signal.SIGKILL)
        for method, path in (("GET", "/readyz"), ("POST", "/v1/recommend"), ("GET", "/")):
            reply = service.ask(method, path)
            assert "no worker" in refused(reply, 503, "not_ready")
            assert reply.version == version
        folder.symlink_to(text_bundle)
        eventually(lambda: service.ask("GET", "/readyz").status == 200)
        folder.unlink()
        os.kill(eventually(service.worker_pids).pop(), signal.SIGKILL)
        assert service.ask("GET", "/readyz").status == 503
        assert service.stop() == 0


def test_clients_wait_for_the_replacement_of_a_worker(text_bundle: Path) -> None:
    with running(text_bundle) as service:
        os.kill(service.worker_pids().pop(), signal.SIGKILL)
        assert service.ask("GET", "/readyz").status == 200
