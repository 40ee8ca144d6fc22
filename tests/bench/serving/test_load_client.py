"""The load client and its arrivals, against toy servers that are slow, break off or stop."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from bench.serving.http_client import RESET, TIMED_OUT, Client, Load, Outcome, RunningLoad
from bench.serving.traffic import NOTICE, in_flight, poisson_arrivals
from mtaw_fast.errors import MtawError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def toy_server(handle: Callable[[socket.socket, int], bool]) -> Iterator[tuple[str, int]]:
    """A server with a thread a connection; handle(connection, number of the request) returns whether to continue."""
    listener = socket.create_server(("127.0.0.1", 0))
    counter = iter(range(10**9))

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(1 << 16):
                if not handle(connection, next(counter)):
                    return

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def answering(connection: socket.socket, _: int) -> bool:
    connection.sendall(ANSWER)
    return True


def load(address: tuple[str, int], due: list[float], **settings) -> Load:
    return Load(address, [REQUEST] * len(due), np.array(due), **{"connections": 4, "timeout": 5.0, **settings})


def run(made: Load):
    return Client(made).run(time.monotonic() + 0.05)


def test_arrivals_are_poisson_after_a_ramp():
    due = poisson_arrivals(500, ramp=10, steady=100, seed=3)
    assert np.array_equal(due, poisson_arrivals(500, 10, 100, 3))
    assert not np.array_equal(due[:10], poisson_arrivals(500, 10, 100, 4)[:10])
    assert np.all(np.diff(due) >= 0)
    assert 0 < due[0] < due[-1] < 110
    counts = np.histogram(due, bins=np.arange(0, 111))[0]
    assert counts[:10].sum() == pytest.approx(2500, abs=250)
    rising = counts[:10] / (500 * (np.arange(10) + 0.5) / 10)
    assert rising[3:] == pytest.approx(1, abs=0.25)
    # Independent counts of a second: mean and variance are the rate.
    assert counts[10:].mean() == pytest.approx(500, abs=10)
    assert counts[10:].var() == pytest.approx(500, rel=0.5)
    gaps = np.diff(due[due > 10])
    assert np.mean(gaps > 1 / 500) == pytest.approx(np.exp(-1), abs=0.01)


def test_every_request_is_answered_and_timed():
    with toy_server(answering) as address:
        outcome = run(load(address, [0.0, 0.01, 0.02, 0.2], kept={1, 3}))
    assert outcome.status.tolist() == [200] * 4
    assert outcome.kept == {1: ANSWER, 3: ANSWER}
    assert (outcome.lateness >= 0).all()
    assert (outcome.latency >= outcome.lateness).all()
    assert outcome.cpu > 0
    assert len(set(outcome.port.tolist())) == 4  # by turns over the connections


def test_a_stalled_answer_delays_no_other_request():
    all_there = threading.Event()

    def stalls(connection: socket.socket, number: int) -> bool:
        if number == 3:
            all_there.set()
        return all_there.wait(20) and answering(connection, number)

    # The first answer comes when the last request has: a client that waits for it never sends that one.
    with toy_server(stalls) as address:
        outcome = run(load(address, [0.0, 0.1, 0.2, 0.3], timeout=20.0))
    assert outcome.status.tolist() == [200] * 4
    assert outcome.latency[0] >= 0.3


def test_lost_connections_fail_their_request_alone():
    def breaks_off(connection: socket.socket, number: int) -> bool:
        if number == 2:
            connection.sendall(ANSWER[:10])
            return False
        return answering(connection, number)

    with toy_server(breaks_off) as address:
        outcome = run(load(address, [0.05 * number for number in range(8)], connections=2))
    assert sorted(outcome.status.tolist()) == [RESET, *[200] * 7]


def test_answers_that_never_come_time_out():
    def silent_once(connection: socket.socket, number: int) -> bool:
        return number == 1 or answering(connection, number)

    with toy_server(silent_once) as address:
        outcome = run(load(address, [0.0, 0.1, 0.2, 0.3], connections=2, timeout=1.5))
    assert sorted(outcome.status.tolist()) == [TIMED_OUT, 200, 200, 200]


def test_statuses_are_kept_and_foreign_answers_refused():
    def overloaded(connection: socket.socket, _: int) -> bool:
        connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        return True

    def unmeasured(connection: socket.socket, _: int) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        return True

    with toy_server(overloaded) as address:
        assert run(load(address, [0.0, 0.0])).status.tolist() == [503, 503]
    with toy_server(unmeasured) as address, pytest.raises(MtawError, match="no Content-Length"):
        run(load(address, [0.0]))


def test_the_load_runs_in_a_process_of_its_own():
    with toy_server(answering) as address:
        with RunningLoad(load(address, [0.0, 0.1])) as running:
            outcome = running.result()
        assert outcome.status.tolist() == [200, 200]
        assert outcome.began == running.began
    with (
        pytest.raises(MtawError, match="took no 4 connections in time"),
        RunningLoad(load(address, [0.0], timeout=0.3)),
    ):
        pass


def test_a_kill_accounts_for_what_was_on_its_connections_alone():
    requests = [  # sent, done, status, port: a worker with the ports 7001 and 7002 is killed at 10
        (9.5, 9.6, 200, 7001),  # answered
        (9.9, 10.01, RESET, 7001),  # in progress
        (10.0 + NOTICE / 2, 10.2, RESET, 7002),  # sent before the client noticed
        (9.9, 10.1, RESET, 7003),  # to another worker
        (10.0 + 2 * NOTICE, 11.0, RESET, 7001),  # later
        (9.5, 9.99, 503, 7001),  # refused before
        (np.nan, 20.0, TIMED_OUT, 0),  # never sent
    ]
    sent, done, status, port = (np.array(column) for column in zip(*requests, strict=True))
    outcome = Outcome(9.0, sent - 9.0, sent, done, status.astype(np.int16), port.astype(np.int32), {}, 0.0)
    assert in_flight(outcome, [(10.0, np.array([7001, 7002]))]).tolist() == [False, True, True] + 4 * [False]
    assert not in_flight(outcome, []).any()
