"""Shutdown cuts no connection: running requests are answered, new ones get a 503."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path

import pytest

from mtaw_fast.service.http import graceful_drain
from mtaw_fast.service.http.graceful_drain import GracefulDrain, block_new_connections, refusal
from tests.service.stops import Stopped, stop_under_load
from tests.support.service.running import BODY, HEAD, eventually, rest, running

VERSION = "0123456789abcdef"


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.long(caught="here, by two")), 2])
def test_stops_under_load_cut_no_connection(text_bundle: Path, tmp_path: Path, workers: int) -> None:
    outcome = Stopped()
    stop_under_load(text_bundle, tmp_path / "log", workers, outcome)
    assert not outcome.cut, str(outcome)
    assert set(outcome.statuses) <= {200, 503}
    assert outcome.statuses[200] > 10
    assert max(outcome.seconds) < 15  # of a shutdown timeout of 30


def test_shutdown_answers_running_requests_and_refuses_new_ones(text_bundle: Path) -> None:
    with (
        running(text_bundle, "--shutdown-timeout", "4", "--read-timeout", "60") as service,
        contextlib.ExitStack() as stack,
    ):
        half, finishing, kept, idle = (stack.enter_context(service.raw()) for _ in range(4))
        half.sendall(HEAD + BODY[:5])  # never completed
        finishing.sendall(HEAD + BODY[:5])
        kept.sendall(HEAD + BODY)
        idle.sendall(HEAD + BODY)
        eventually(lambda: service.metric("mtaw_answers_total") == 2)
        service.process.terminate()
        eventually(lambda: service.events("stopping"))
        time.sleep(0.4)
        kept.sendall(HEAD + BODY)
        finishing.sendall(BODY[5:])
        last, finished = rest(kept), rest(finishing)
        for data in (HEAD + BODY, b""):
            with service.raw() as link:
                link.sendall(data)
                answer = rest(link)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nconnection: close\r\n" in answer
            assert b"\r\nretry-after: 1\r\n" in answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "not_ready"
        assert last.count(b"HTTP/1.1 200") == 2
        assert rest(idle).count(b"HTTP/1.1 ") == 1  # and then its end
        assert finished.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in last
        assert b"connection: close" in finished
        outcome = rest(half)
        assert outcome.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in outcome
        assert b'"code":"not_ready"' in outcome
        assert service.process.wait(timeout=20) == 0
        assert service.events("stopped")
        service.assert_no_error()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", service.port)) != 0


def test_blocked_connections_do_not_begin_but_waiting_ones_are_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        waiting = socket.create_connection(address)
        block_new_connections(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        drain = GracefulDrain(listener, refusal(VERSION))
        drain.turn(1)
    drain.finish()
    answer = rest(waiting)
    waiting.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert VERSION.encode() in answer


def test_a_client_that_keeps_sending_gets_the_503() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        drain = GracefulDrain(listener, refusal(VERSION))
        drain.turn(1)
        drain.turn(1)
        for _ in range(30):
            client.sendall(b"x" * 10_000)
            drain.turn(0)
        client.shutdown(socket.SHUT_WR)
    drain.finish()
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    client.close()


def test_a_client_closed_for_another_in_the_turn_it_sends_in_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graceful_drain, "connection_limit", lambda _: 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        drain = GracefulDrain(listener, refusal(VERSION))
        first = socket.create_connection(listener.getsockname())
        drain.turn(1)
        second = socket.create_connection(listener.getsockname())
        first.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(20):
            drain.turn(0.01)
    drain.finish()
    assert second.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    first.close(), second.close()
