"""The bench JSON schema, as a check that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROW_TYPES: dict[str, tuple[type, ...]] = {
    "bench": (str,),
    "case": (str,),
    "params": (dict,),
    "metric": (str,),
    "p50": (float,),
    "p95": (float,),
    "p99": (float,),
    "n": (int,),
    "baseline": (str, type(None)),
    "ratio": (float, type(None)),
    "floor": (float, type(None)),
    "floor_what": (str, type(None)),
}

SERVING_TYPES: dict[str, tuple[type, ...]] = {
    "p90": (float,),
    "p999": (float,),
    "errors": (int,),
    "answered": (float,),
    "server_cpu_us": (float,),
    "client_cpu_us": (float,),
    "client_late_p50_ms": (float,),
    "client_late_p99_ms": (float,),
    "others_cpu": (float,),
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a bench's JSON document, checked."""
    report = json.loads(path.read_text())
    check_report(report)
    return report["results"]


def check_report(report: dict[str, Any]) -> None:
    """Assert that `report` is a bench JSON document of schema 1 with sensible figures."""
    assert list(report) == ["schema", "machine", "commit", "at", "quick", "results"]
    assert report["schema"] == 1
    assert report["machine"]["cpu"]
    assert report["machine"]["cores"] >= 1
    assert report["commit"] is None or len(report["commit"].removesuffix("-dirty")) == 40
    for row in report["results"]:
        types = ROW_TYPES | (SERVING_TYPES if row["bench"] == "serving" else {})
        assert list(row)[: len(types)] == list(types)
        ends = [name for name in ("ratio_low", "ratio_high") if name in row]
        assert ends in ([], ["ratio_low", "ratio_high"])
        assert not ends or 0 < row["ratio_low"] <= row["ratio_high"]
        assert row["bench"] in ("serving", "live") or len(row) == len(types) + len(ends)
        for name, kinds in types.items():
            assert isinstance(row[name], kinds), f"{name}: {row[name]!r}"
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert row["n"] >= 1
        assert (row["baseline"] is None) == (row["ratio"] is None)
        assert (row["floor"] is None) == (row["floor_what"] is None)
        assert row["ratio"] is None or row["ratio"] > 0
        assert row["params"]["threads"] >= 1
