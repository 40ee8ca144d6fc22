"""The metrics: one row for each worker, counts by bundle version, the sums, and the text that Prometheus reads."""

from __future__ import annotations

import json
import re

import pytest

from mtaw_fast.rules import Placed
from mtaw_fast.service.app import whole_document
from mtaw_fast.service.observability.counters import (
    KINDS,
    PID,
    VERSION,
    VERSION_CELLS,
    VersionCounters,
    read,
    version_cell,
    version_text,
)
from mtaw_fast.service.observability.metrics import FAMILIES, GAUGES, STATUSES, Metrics
from mtaw_fast.service.resources import SharedMemory
from tests.support.service.running import Running

_SERIES = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? -?[0-9.e+-]+')


@pytest.fixture
def counters() -> SharedMemory:
    return Metrics.make(3)


@pytest.fixture
def workers(counters: SharedMemory) -> list[Metrics]:
    return [Metrics.open(counters, 3, row) for row in range(3)]


def value(text: str, series: str) -> float:
    (line,) = [line for line in text.splitlines() if line.rpartition(" ")[0] == series]
    return float(line.rpartition(" ")[2])


def test_every_worker_reports_the_sum(workers: list[Metrics]) -> None:
    """Counters begin at zero: else Prometheus sees no increase at the first event, and an alert does not ring."""
    text = workers[0].text()
    for series in ('mtaw_reloads_total{result="refused"}', 'mtaw_rejected_total{reason="overloaded"}'):
        assert value(text, series) == 0
    assert "mtaw_requests_total{" not in text
    for number, worker in enumerate(workers, 1):
        worker.add("mtaw_clicks_total", by=number)
        worker.request("/v1/recommend", 200, 0.004)
    for worker in workers:
        text = worker.text()
        assert value(text, "mtaw_clicks_total") == 6
        assert value(text, 'mtaw_requests_total{route="/v1/recommend",status="200"}') == 3


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
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(FAMILIES) + 9
    series = [line for line in lines if not line.startswith("#")]
    assert all(_SERIES.fullmatch(line) for line in series)
    names = [line.rpartition(" ")[0] for line in series]
    assert len(set(names)) == len(names)
    assert 'mtaw_workers{version="fedcba9876543210"}' in names
    for version in ("0000000000000001", "ffffffffffffffff", "8000000000000000"):
        assert -(2**63) <= version_cell(version) < 2**63
        assert version_text(version_cell(version)) == version


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


def name(number: int) -> str:
    return f"{number:016x}"


@pytest.fixture
def cells() -> memoryview:
    return memoryview(bytearray(8 * VERSION_CELLS)).cast("q")


def test_a_new_worker_continues_the_counts_of_its_row(cells: memoryview) -> None:
    counters = VersionCounters(cells)
    counters.serve(name(1))
    counters.add(name(1), "shown", 3)
    restarted = VersionCounters(cells)
    assert restarted.knows(name(1))
    restarted.add(name(1), "shown", 4)
    assert read(cells) == {name(1): [7 if kind == "shown" else 0 for kind in KINDS]}


def test_the_version_served_longest_ago_loses_its_slot_and_sums_stay(cells: memoryview) -> None:
    counters = VersionCounters(cells)
    for number in range(1, 41):
        counters.serve(name(number))
        counters.serve(name(1))  # is served all the time
        counters.add(name(number), "clicked", number)
    by_version = read(cells)
    assert len(by_version) == 17
    assert {name(1), name(40), name(26)} <= set(by_version)
    assert name(2) not in by_version
    assert sum(counts[3] for counts in by_version.values()) == sum(range(1, 41))
    assert by_version["other"][3] == sum(range(2, 26))


def test_frequent_reloads_of_one_bundle_keep_the_slot_of_another() -> None:
    worker = Metrics.open(Metrics.make(1), 1, 0)
    steady, row = name(99), worker.counters.own
    row[VERSION + 1] = version_cell(steady)
    worker.serve(steady)
    for number in range(1, 40):  # a night each
        row[VERSION] = version_cell(name(number))
        worker.serve(name(number))
    worker.count_by_version(steady, "answers", 5)
    assert f'mtaw_bundle_answers_total{{version="{steady}"}} 5' in worker.text()
    assert 'version="other"' not in worker.text()


def test_a_version_that_another_worker_serves_is_known() -> None:
    shared = Metrics.make(2)
    first, second = (Metrics.open(shared, 2, row) for row in range(2))
    first.serve(name(7))
    second.count_first_by_version(name(7), {"shown": 4, "clicked": 1})
    second.count_first_by_version(name(8), {"shown": 2})
    first.count_by_version(name(7), "shown", 4)
    for worker in (first, second):
        text = worker.text()
        for what, count in (("shown", 8), ("clicked", 1)):
            assert f'mtaw_feedback_items_total{{version="{name(7)}",what="{what}"}} {count}\n' in text
        assert 'mtaw_feedback_items_total{version="other",what="shown"} 2' in text
        assert name(8) not in text


def test_lists_are_counted_by_placement_up_to_a_bound() -> None:
    shared = Metrics.make(2)
    workers = [Metrics.open(shared, 2, row) for row in range(2)]
    names = [f"place-{number}" for number in range(40)]
    for worker in workers:
        for name in names:
            worker.count_placed(Placed(name, True, "", 1.0, None, False))
        for name in ("nowhere", "elsewhere"):  # by clients: they are one
            worker.count_placed(Placed(name, False, "", 1.0, None, False))
    text = "\n".join(workers[0].placement_lines(names))
    counts = {name: int(count) for name, count in re.findall(r'\{placement="([^"]+)"\} (\d+)', text)}
    assert counts == {"other": 2 * 25, "default": 4, **dict.fromkeys(names[25:], 2)}
    assert "mtaw_unknown_placements_total 4" in workers[0].text()
    assert "answers_total{version" not in workers[0].text()
