"""The metrics: one row for each worker, the sums, and the text that Prometheus reads."""

from __future__ import annotations

import json
import re

import pytest

from mtaw_fast.service.app import whole_document
from mtaw_fast.service.observability.counters import PID, VERSION, version_cell, version_text
from mtaw_fast.service.observability.metrics import FAMILIES, GAUGES, STATUSES, Metrics
from mtaw_fast.service.resources import SharedMemory
from tests.support.service.running import Running

_SERIES = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+')


@pytest.fixture
def counters() -> SharedMemory:
    """The memory that three workers share."""
    return Metrics.make(3)


@pytest.fixture
def workers(counters: SharedMemory) -> list[Metrics]:
    """Three workers of one service."""
    return [Metrics.open(counters, 3, row) for row in range(3)]


def value(text: str, series: str) -> float:
    """Return the value of a series in a text."""
    (line,) = [line for line in text.splitlines() if line.rpartition(" ")[0] == series]
    return float(line.rpartition(" ")[2])


def test_every_worker_reports_the_sum(workers: list[Metrics]) -> None:
    for number, worker in enumerate(workers, 1):
        worker.add("mtaw_clicks_total", by=number)
        worker.request("/v1/recommend", 200, 0.004)
    for worker in workers:
        text = worker.text()
        assert value(text, "mtaw_clicks_total") == 6
        assert value(text, 'mtaw_requests_total{route="/v1/recommend",status="200"}') == 3


def test_counters_begin_at_zero(workers: list[Metrics]) -> None:
    """Else Prometheus sees no increase at the first event, and the alert on refused bundles does not ring."""
    text = workers[0].text()
    for series in ('mtaw_reloads_total{result="refused"}', 'mtaw_rejected_total{reason="overloaded"}'):
        assert value(text, series) == 0
    assert "mtaw_requests_total{" not in text


def test_histograms_are_cumulative(workers: list[Metrics]) -> None:
    worker = workers[0]
    for seconds in (0.0001, 0.0005, 0.002, 0.9, 77):
        worker.request("/healthz", 200, seconds)
    text = worker.text()
    name = "mtaw_request_seconds"
    assert value(text, f'{name}_bucket{{route="/healthz",le="0.0005"}}') == 2
    assert value(text, f'{name}_bucket{{route="/healthz",le="0.001"}}') == 2
    assert value(text, f'{name}_bucket{{route="/healthz",le="0.002"}}') == 3
    assert value(text, f'{name}_bucket{{route="/healthz",le="1"}}') == 4
    assert value(text, f'{name}_bucket{{route="/healthz",le="+Inf"}}') == 5
    assert value(text, f'{name}_count{{route="/healthz"}}') == 5
    assert value(text, f'{name}_sum{{route="/healthz"}}') == pytest.approx(77.9026)


def test_the_text_is_well_formed(workers: list[Metrics]) -> None:
    workers[0].counters.own[PID] = 1
    workers[0].counters.own[VERSION] = version_cell("fedcba9876543210")
    lines = workers[0].text().splitlines()
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(FAMILIES) + 10
    series = [line for line in lines if not line.startswith("#")]
    assert all(_SERIES.fullmatch(line) for line in series)
    names = [line.rpartition(" ")[0] for line in series]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("version", ["0000000000000001", "ffffffffffffffff", "8000000000000000", "0123456789abcdef"])
def test_a_version_fits_a_cell(version: str) -> None:
    cell = version_cell(version)
    assert -(2**63) <= cell < 2**63
    assert version_text(cell) == version


def test_a_dead_workers_counts_stay_and_its_gauges_go(workers: list[Metrics]) -> None:
    for row, worker in enumerate(workers):
        worker.counters.own[PID] = 100 + row
        worker.counters.own[VERSION] = version_cell("00000000000000aa" if row else "00000000000000bb")
        worker.add("mtaw_answers_total")
        worker.set("mtaw_queue_length", 5)
    assert workers[0].workers() == {"00000000000000aa": 2, "00000000000000bb": 1}
    workers[2].counters.leave(1, GAUGES)
    text = workers[0].text()
    assert value(text, "mtaw_answers_total") == 3
    assert value(text, "mtaw_queue_length") == 10
    assert value(text, 'mtaw_workers{version="00000000000000aa"}') == 1


def test_a_new_worker_continues_the_counts_of_its_row(workers: list[Metrics], counters: SharedMemory) -> None:
    workers[1].add("mtaw_answers_total", by=7)
    restarted = Metrics.open(counters, 3, 1)
    restarted.add("mtaw_answers_total")
    assert value(workers[0].text(), "mtaw_answers_total") == 8


def test_requests_are_counted(text_service: Running) -> None:
    names = (
        "mtaw_answers_total", "mtaw_fallback_answers_total", "mtaw_clicks_total", "mtaw_unknown_clicks_total",
        'mtaw_stage_seconds_count{stage="encode"}', 'mtaw_requests_total{route="/v1/recommend",status="200"}',
        'mtaw_requests_total{route="/v1/recommend",status="400"}', 'mtaw_requests_total{route="other",status="404"}',
        'mtaw_request_seconds_count{route="/v1/recommend/batch"}',
    )  # fmt: skip
    before = [text_service.metric(name) for name in names]
    text_service.ask("POST", "/v1/recommend", {"session": ["sku-11", "nobody", "sku-12"]})
    text_service.ask("POST", "/v1/recommend", {"session": ["nobody"]})
    text_service.ask("POST", "/v1/recommend/batch", {"sessions": [["sku-11"], ["sku-12", "nobody"], []]})
    text_service.ask("POST", "/v1/recommend", {"session": 5})
    text_service.ask("GET", "/nope")
    counted = [text_service.metric(name) - start for name, start in zip(names, before, strict=True)]
    assert counted == [5, 2, 7, 3, 2, 2, 1, 1, 1]
    reply = text_service.ask("GET", "/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert text_service.metric(f'mtaw_workers{{version="{reply.version}"}}') == 1


def test_an_accepted_compaction_is_no_error(workers: list[Metrics]) -> None:
    """Every status of a route's answer has its place; `Errors` of deploy/prometheus/alerts.yml counts 5xx."""
    workers[0].request("other", 202, 0.001)
    assert value(workers[0].text(), 'mtaw_requests_total{route="other",status="202"}') == 1
    document = json.loads(whole_document())
    codes = {int(code) for path in document["paths"].values() for route in path.values() for code in route["responses"]}
    assert codes <= set(STATUSES)
