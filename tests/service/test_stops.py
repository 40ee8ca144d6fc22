"""Stopping cuts no connection off: what runs is ended, who comes is told."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path

import pytest

from mtaw_fast.service.http import graceful_drain as refusal_module
from mtaw_fast.service.http.graceful_drain import GracefulDrain, begin_no_connections, refusal
from tests.service.running import eventually, running
from tests.service.stops import Stopped, stop_under_load
from tests.service.test_slow_clients import BODY, HEAD, rest

VERSION = "0123456789abcdef"


@pytest.mark.parametrize("workers", [1, 2])
def test_stops_under_load_cut_nobody(text_bundle: Path, tmp_path: Path, workers: int) -> None:
    told = Stopped()
    stop_under_load(text_bundle, tmp_path / "log", workers, told)
    assert not told.cut, str(told)
    assert set(told.statuses) <= {200, 503}
    assert told.statuses[200] > 10
    assert max(told.seconds) < 15  # of a grace of 30


def test_while_a_worker_ends_what_it_has_who_comes_is_told(text_bundle: Path) -> None:
    with (
        running(text_bundle, "--shutdown-timeout", "4", "--read-timeout", "60") as service,
        contextlib.ExitStack() as stack,
    ):
        half, kept = stack.enter_context(service.raw()), stack.enter_context(service.raw())
        half.sendall(HEAD + BODY[:5])
        kept.sendall(HEAD + BODY)
        eventually(lambda: service.metric("mtaw_answers_total") == 1)
        service.process.terminate()
        eventually(lambda: service.events("stopping"))
        time.sleep(0.4)
        kept.sendall(HEAD + BODY)
        last = rest(kept)
        for sent in (HEAD + BODY, b""):
            with service.raw() as fresh:
                fresh.sendall(sent)
                answer = rest(fresh)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nconnection: close\r\n" in answer
            assert b"\r\nretry-after: 1\r\n" in answer
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "not_ready"
        assert last.count(b"HTTP/1.1 200") == 2
        assert b"connection: close" in last
        told = rest(half)
        assert told.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in told
        assert b'"code":"not_ready"' in told
        assert service.process.wait(timeout=20) == 0
        service.assert_no_error()


def test_the_kernel_begins_no_connection_and_hands_over_what_it_has() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        waiting = socket.create_connection(address)
        begin_no_connections(listener)
        with pytest.raises(TimeoutError):
            socket.create_connection(address, timeout=0.3)
        refuser = GracefulDrain(listener, refusal(VERSION))
        refuser.turn(1)
    refuser.finish()
    answer = rest(waiting)
    waiting.close()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert VERSION.encode() in answer


def test_a_client_that_goes_on_sending_gets_the_refusal_all_the_same() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n")
        refuser = GracefulDrain(listener, refusal(VERSION))
        refuser.turn(1)
        refuser.turn(1)
        for _ in range(30):
            client.sendall(b"x" * 10_000)
            refuser.turn(0)
        client.shutdown(socket.SHUT_WR)
    refuser.finish()
    assert client.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    client.close()


def test_one_that_makes_room_in_the_turn_in_which_it_speaks_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal_module, "most_connections", lambda _: 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refuser = GracefulDrain(listener, refusal(VERSION))
        first = socket.create_connection(listener.getsockname())
        refuser.turn(1)
        second = socket.create_connection(listener.getsockname())
        first.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for _ in range(20):
            refuser.turn(0.01)
    refuser.finish()
    assert second.recv(1 << 16).startswith(b"HTTP/1.1 503 ")
    first.close(), second.close()


def test_no_folder_is_needed_and_none_is_left(text_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    with running(text_bundle, environment={"TMPDIR": str(folder)}) as service:
        assert service.ask("GET", "/metrics").status == 200
        (pid,) = service.worker_pids()
        assert "mtaw-counters" in Path(f"/proc/{pid}/maps").read_text()
        service.process.kill()  # which leaves no time to clean up
        service.process.wait()
    assert not folder.exists()
