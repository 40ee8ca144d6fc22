"""Hot reloads and killed workers under load, at a rate that a busy machine keeps up with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="the service needs the extra 'serve'")
pytest.importorskip("psutil", reason="starting a service in tests needs the extra 'bench'")

from bench.serving.checks import Versions, parse_answer
from bench.serving.faults import kill_under_load, reload_under_load
from bench.serving.inputs import distinct_sessions, publish, recommend_requests
from bench.serving.service_process import Service
from bench.serving.traffic import Traffic
from mtaw_fast.bundle import Bundle
from mtaw_fast.service.snapshot import current_version
from tests.support.random_bundle import save_random

K = 10


@pytest.fixture
def bundles(tmp_path: Path) -> list[Path]:
    for seed in (0, 1):
        save_random(tmp_path / f"bundle-{seed}", n_items=3000, embedding_dim=32, seed=seed, text=False)
    return [tmp_path / "bundle-0", tmp_path / "bundle-1"]


def made(bundles: list[Path], traffic: Traffic):
    ids = Bundle.load(bundles[0]).ids
    sessions = distinct_sessions(len(ids), traffic.most_requests, traffic.seed)
    return recommend_requests(sessions, ids.external, K), sessions


@pytest.mark.slow
def test_twenty_reloads_fail_no_request_and_mix_no_answer(bundles, tmp_path):
    publish(bundles[1], tmp_path / "served")
    traffic = Traffic(rate=100, ramp=1, steady=24, connections=16)
    requests, sessions = made(bundles, traffic)
    with Service(tmp_path / "served", tmp_path / "log", 2, ("--reload-interval", "0.1")) as service:
        reloads = reload_under_load(service, requests, sessions, traffic, bundles, 20, K)
    assert reloads.measured.errors == 0, reloads.measured.error_kinds
    assert reloads.error is None
    assert reloads.checked == len(reloads.measured.outcome.due)
    assert (reloads.published, reloads.seen) == (20, 20)


@pytest.mark.slow
def test_killed_workers_fail_their_own_requests_alone(bundles, tmp_path):
    publish(bundles[1], tmp_path / "served")
    traffic = Traffic(rate=100, ramp=1, steady=12, connections=16)
    requests, _ = made(bundles, traffic)
    with Service(tmp_path / "served", tmp_path / "log", 2) as service:
        before = service.worker_pids()
        kills = kill_under_load(service, requests, traffic, 2)
        after = service.worker_pids()
        assert service.running
    assert len(after) == 2
    assert after != before
    assert kills.error is None
    assert kills.failed <= kills.in_flight.sum()


def test_wrong_and_mixed_answers_are_noticed(bundles):
    sessions = distinct_sessions(3000, 5, seed=0)
    versions = Versions.of(bundles, sessions, K)
    ranking = [Versions.of([folder], sessions, K) for folder in bundles]
    names = [current_version(folder) for folder in bundles]
    assert names[0] != names[1]
    ids = Bundle.load(bundles[0]).ids

    def response(made_by: int, says: int, header: int | None = None, nudge: float = 0.0) -> bytes:
        items, scores = ranking[made_by]._rankings[names[made_by]]
        row = (np.array(scores[2], float) + nudge).tolist()
        head = f"HTTP/1.1 200 OK\r\nX-Bundle-Version: {names[says if header is None else header]}\r\n\r\n"
        return head.encode() + f'{{"version": "{names[says]}", "items": {items[2]}, "scores": {row}}}'.encode()

    assert ids.kind == "int"
    assert versions.error(2, parse_answer(response(0, 0))) is None
    assert versions.error(2, parse_answer(response(1, 1))) is None
    assert "its items are not those" in str(versions.error(2, parse_answer(response(0, 1))))
    assert "in the header" in str(versions.error(2, parse_answer(response(0, 0, header=1))))
    assert "its scores are not those" in str(versions.error(2, parse_answer(response(0, 0, nudge=1e-4))))
    assert "its items are not those" in str(versions.error(1, parse_answer(response(0, 0))))
    assert "never published" in str(ranking[1].error(2, parse_answer(response(0, 0))))
