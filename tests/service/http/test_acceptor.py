"""How workers share new connections."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import psutil
import pytest

from bench.serving.service_process import Service
from tests.support.random_bundle import save_random

PING = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    work = tmp_path_factory.mktemp("acceptor")
    save_random(work / "bundle")
    with Service(work / "bundle", work / "log", 2) as running:
        yield running


def links(service: Service, count: int) -> list[socket.socket]:
    """Return connections made at once, each after one answer."""
    opened = [socket.create_connection(service.address, timeout=30) for _ in range(count)]
    for link in opened:
        link.sendall(PING)
    for link in opened:
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200")
    return opened


def connections(worker: psutil.Process) -> int:
    return sum(bool(connection.raddr) for connection in worker.net_connections("tcp"))


def close(made: list[socket.socket]) -> None:
    for link in made:
        link.close()


def test_simultaneous_connections_are_shared_by_the_workers(service):
    opened = links(service, 64)
    shares = [connections(worker) for worker in service.workers()]
    close(opened)
    assert sum(shares) == 64
    # On a busy machine a worker may not run while the other one waits for it.
    assert min(shares) >= 16


def test_a_stuck_worker_delays_no_connection(service):
    stuck, other = service.workers()
    before = links(service, 4)
    os.kill(stuck.pid, signal.SIGSTOP)
    try:
        opened = links(service, 40)
        assert connections(other) >= 40
    finally:
        os.kill(stuck.pid, signal.SIGCONT)
    close(opened)
    close(before)
