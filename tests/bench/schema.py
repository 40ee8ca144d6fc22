"""The bench JSON schema, as a check that names what is wrong."""

from __future__ import annotations

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


def check_report(report: dict[str, Any]) -> None:
    """Assert that `report` is a bench JSON document of schema 1 with sensible figures."""
    assert list(report) == ["schema", "machine", "commit", "results"]
    assert report["schema"] == 1
    assert report["machine"]["cpu"]
    assert report["machine"]["cores"] >= 1
    assert report["commit"] is None or len(report["commit"].removesuffix("-dirty")) == 40
    for row in report["results"]:
        assert list(row) == list(ROW_TYPES)
        for name, kinds in ROW_TYPES.items():
            assert isinstance(row[name], kinds), f"{name}: {row[name]!r}"
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert row["n"] >= 1
        assert (row["baseline"] is None) == (row["ratio"] is None)
        assert (row["floor"] is None) == (row["floor_what"] is None)
        assert row["ratio"] is None or row["ratio"] > 0
        assert row["params"]["threads"] >= 1
