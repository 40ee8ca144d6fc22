"""Many waiting connections do not keep other clients from being served."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.service.running import Running, running

PING = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MOST = 20


@pytest.fixture(scope="module")
def service(text_bundle: Path) -> Iterator[Running]:
    """A worker with few connections."""
    with running(text_bundle, "--max-connections", str(MOST), "--read-timeout", "30") as service:
        yield service
        service.assert_no_error()


def ping(link: socket.socket) -> bool:
    """Send a request; return whether it is answered."""
    link.sendall(PING)
    received = b""
    while not received.endswith(b"}"):
        if not (more := link.recv(1 << 16)):
            return False
        received += more
    return received.startswith(b"HTTP/1.1 200")


def ended(link: socket.socket) -> bool:
    """Return whether the service has ended the connection."""
    link.settimeout(0.2)
    try:
        return link.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True


def test_the_longest_idle_connection_is_closed_for_a_new_one(service: Running) -> None:
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(service.raw()) for _ in range(MOST)]
        assert all(map(ping, links))
        assert ping(links[0])  # now the second one has been idle for longest
        assert ping(stack.enter_context(service.raw()))
        assert [number for number, link in enumerate(links) if ended(link)] == [1]


def test_silent_connections_block_no_request(service: Running) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(3 * MOST):
            stack.enter_context(service.raw())
        for _ in range(5):
            assert service.ask("GET", "/healthz", timeout=5).status == 200


def test_unfinished_requests_block_no_request(service: Running) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(3 * MOST):
            part = PING[:-4] if number % 2 else b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{"
            stack.enter_context(service.raw()).sendall(part)
        for _ in range(5):
            assert service.ask("GET", "/healthz", timeout=5).status == 200


def test_a_low_file_limit_is_raised_and_respected(text_bundle: Path) -> None:
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (90, {hard})); "
    start = "from mtaw_fast.cli import main; sys.exit(main(sys.argv[1:]))"
    for hard, most in (("300", None), ("100", 36)):
        with (
            running(
                text_bundle, "--max-connections", "200", python=["-c", limited.format(hard=hard) + start]
            ) as service,
            contextlib.ExitStack() as stack,
        ):
            for _ in range(120):
                stack.enter_context(service.raw())
            assert service.ask("GET", "/healthz", timeout=5).status == 200
            (pid,) = service.worker_pids()
            open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            logged = [one["most"] for one in service.events("fewer_connections")]
            if most is None:
                assert open_files > 120
                assert not logged
            else:
                assert open_files <= 100
                assert logged == [most]
