"""The queries of Grafana's dashboards match the series of `/metrics`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.refreshing.state import RefreshState
from mtaw_fast.service.observability.metrics import FAMILIES
from tests.support.service.running import WITH_TOKEN, Running

promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed: pip install promql-parser")

DASHBOARDS = sorted((Path(__file__).resolve().parents[3] / "deploy/grafana/dashboards").glob("*.json"))
BOARDS = [json.loads(path.read_text())["panels"] for path in DASHBOARDS]
PANELS = [panel for board in BOARDS for panel in board]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
_SERIES = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$", re.M)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@pytest.fixture(scope="module")
def series(text_service: Running) -> dict[str, list[dict[str, str]]]:
    """Labels of every series by name, after one request of each kind."""
    for body in ({"session": ["sku-20"]}, {"session": ["nobody-knows"]}, {"session": ["sku-20"], "k": 0}):
        text_service.ask("POST", "/v1/recommend", body)
    text_service.ask("POST", "/v1/sessions/dashboard/click", {"items": ["sku-21"]})
    text_service.ask("POST", "/admin/reload", headers=WITH_TOKEN)
    text = text_service.ask("GET", "/metrics").body.decode() + RefreshState(Path("none")).metrics()
    by_name: dict[str, list[dict[str, str]]] = {}
    for name, labels in _SERIES.findall(text):
        by_name.setdefault(name, []).append(dict(_LABEL.findall(labels)))
    for family in FAMILIES:  # a metric without counts has no series yet
        if family.name not in by_name and f"\n# TYPE {family.name} {family.kind}\n" in text:
            names = [name for name, _ in family.labels]
            by_name[family.name] = [dict(zip(names, values, strict=True)) for values in family.series]
    return by_name


def parts(node: Any) -> Iterator[Any]:
    """Yield a query's parts, from the outside in."""
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "args", "param"):
        inner = getattr(node, name, None)
        for part in inner if isinstance(inner, list) else [inner]:
            if (part is not None and type(part).__module__.startswith("promql")) or hasattr(part, "matchers"):
                yield from parts(part)


def parsed(query: str) -> Any:
    return promql.parse(query.replace("$__rate_interval", "1m"))


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_queries_use_existing_series(title: str, query: str, series: dict[str, list[dict[str, str]]]) -> None:
    selectors = [part for part in parts(parsed(query)) if hasattr(part, "matchers")]
    assert {part.name for part in selectors} == set(re.findall(r"\bmtaw_\w+", query))
    for selector in selectors:
        assert selector.name in series, f"{title}: /metrics has no {selector.name}"
        labels = {name for sample in series[selector.name] for name in sample}
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{title}: {selector.name} has no label {matcher.name}"
            assert any(re.fullmatch(matcher.value, sample.get(matcher.name, "")) for sample in series[selector.name])
    grouped = {part for node in parts(parsed(query)) for part in getattr(getattr(node, "modifier", None), "labels", [])}
    known = {name for selector in selectors for sample in series[selector.name] for name in sample}
    assert grouped <= known, f"{title}: nothing has the labels {grouped - known}"


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), (panel["title"], label)


@pytest.mark.parametrize("board", BOARDS)
def test_panels_do_not_overlap(board: list[Any]) -> None:
    cells = [
        (x, y)
        for panel in board
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in board}) == len(board)
