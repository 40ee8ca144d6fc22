"""Which failures a killed worker or a hot reload accounts for, and that any other one fails the bench."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the serving bench needs the extra 'serve'")
pytest.importorskip("psutil", reason="the serving bench needs the extra 'bench'")

from bench.serving import command as serving
from bench.serving import faults as serving_faults
from bench.serving import service_process
from bench.serving.faults import NOTICE, Kills, Reloads, in_flight
from bench.serving.http_client import RESET, TIMED_OUT, Outcome
from bench.serving.traffic import Measured, Traffic
from tests.support.bench.schema import check_report

PORTS = np.array([7001, 7002])  # of the connections to the worker that is killed
KILLED = 10.0


def outcome(*requests: tuple[float, float, int, int]) -> Outcome:
    """Of requests (sent, done, status, port); due when they were sent, from second 9 on."""
    sent, done, status, port = (np.array(column) for column in zip(*requests, strict=True))
    return Outcome(9.0, sent - 9.0, sent, done, status.astype(np.int16), port.astype(np.int32), {}, 0.0)


ANSWERED = (9.5, 9.6, 200, 7001)
UNDER_WAY = (9.9, 10.01, RESET, 7001)
INTO_THE_GAP = (10.0 + NOTICE / 2, 10.2, RESET, 7002)
OTHER_WORKER = (9.9, 10.1, RESET, 7003)
LATER = (10.0 + 2 * NOTICE, 11.0, RESET, 7001)
DONE_BEFORE = (9.5, 9.99, 503, 7001)
NEVER_SENT = (np.nan, 20.0, TIMED_OUT, 0)


def kills(*requests: tuple[float, float, int, int]) -> Kills:
    seen = outcome(*requests)
    measured = Measured(Traffic(10, 0, 2), seen, 0.0, 0.0, 0.0)
    return Kills(measured, in_flight(seen, [(KILLED, PORTS)]), [1.0])


def test_a_kill_accounts_for_what_was_on_its_connections_alone() -> None:
    seen = outcome(ANSWERED, UNDER_WAY, INTO_THE_GAP, OTHER_WORKER, LATER, DONE_BEFORE, NEVER_SENT)
    assert in_flight(seen, [(KILLED, PORTS)]).tolist() == [False, True, True, False, False, False, False]
    assert not in_flight(seen, []).any()
    assert in_flight(seen, [(KILLED, PORTS), (KILLED, np.array([7003]))]).tolist()[3]


def test_other_failures_are_named_in_one_line() -> None:
    assert kills(ANSWERED, UNDER_WAY, INTO_THE_GAP).error is None
    killed = kills(ANSWERED, UNDER_WAY, OTHER_WORKER, DONE_BEFORE)
    assert (killed.failed, killed.stray.tolist()) == (3, [2, 3])
    assert killed.error == (
        "2 requests failed that were in flight on no killed worker: request 2 (connection lost, due at 0.90 s), "
        "request 3 (status 503, due at 0.50 s)"
    )
    more_killed = kills(*[OTHER_WORKER] * 9)
    assert "request 4 (" in str(more_killed.error)
    assert "request 5 (" not in str(more_killed.error)
    assert str(more_killed.error).endswith(" and 4 more")


def test_a_reload_accounts_for_no_failure() -> None:
    def reloads(*requests: tuple[float, float, int, int], wrong: str | None = None) -> Reloads:
        measured = Measured(Traffic(10, 0, 2), outcome(*requests), 0.0, 0.0, 0.0)
        return Reloads(measured, 1, 1, 1, int(wrong is not None), wrong)

    assert reloads(ANSWERED).error is None
    assert reloads(ANSWERED, UNDER_WAY).error == "1 requests failed: request 1 (connection lost, due at 0.90 s)"
    assert reloads(UNDER_WAY, wrong="request 7: ..").error == "1 answers are wrong; the first: request 7: .."


@pytest.mark.parametrize("stray", [False, True])
def test_a_stray_failure_fails_the_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stray: bool
) -> None:
    @contextlib.contextmanager
    def no_service(*_: object) -> Iterator[None]:
        yield

    killed = kills(ANSWERED, UNDER_WAY, *([OTHER_WORKER] if stray else []))
    monkeypatch.setattr(service_process, "Service", no_service)
    monkeypatch.setattr(serving_faults, "kill_under_load", lambda *_: killed)
    options = ["--kills", "1", "--items", "200", "--rates", "9", "--seconds", "1", "--ramp", "0"]
    places = ["--cache", f"{tmp_path}/cache", "--json", f"{tmp_path}/out.json"]
    assert serving.main([*options, *places]) == int(stray)
    printed = capsys.readouterr()
    report = json.loads((tmp_path / "out.json").read_text())
    check_report(report)
    lines = [line for line in printed.err.splitlines() if line.startswith("refused: killed workers: ")]
    if stray:
        assert report["results"] == []
        assert len(lines) == 1
        assert "request 2 (connection lost" in lines[0]
    else:
        (row,) = report["results"]
        assert (row["case"], row["killed"], row["in_flight"], row["stray"]) == ("killed-worker", 1, 1, 0)
        assert not lines
    assert f"{1 + stray} requests failed, 1 were in flight on them; {int(stray)} others failed" in printed.out
