"""The bench JSON schema, as a check that names what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROW_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("bench", "case"), (str,)),
    "params": (dict,),
    "metric": (str,),
    **dict.fromkeys(("p50", "p95", "p99"), (float,)),
    "n": (int,),
    "baseline": (str, type(None)),
    **dict.fromkeys(("ratio", "floor"), (float, type(None))),
    "floor_what": (str, type(None)),
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
        assert list(row)[: len(ROW_TYPES)] == list(ROW_TYPES)
        ends = [name for name in ("ratio_low", "ratio_high") if name in row]
        assert ends in ([], ["ratio_low", "ratio_high"])
        assert not ends or 0 < row["ratio_low"] <= row["ratio_high"]
        assert row["bench"] in ("serving", "live") or len(row) == len(ROW_TYPES) + len(ends)
        for name, kinds in ROW_TYPES.items():
            assert isinstance(row[name], kinds), f"{name}: {row[name]!r}"
        assert 0 < row["p50"] <= row["p95"] <= row["p99"]
        assert row["n"] >= 1
        assert (row["baseline"] is None) == (row["ratio"] is None)
        assert (row["floor"] is None) == (row["floor_what"] is None)
        assert row["ratio"] is None or row["ratio"] > 0
        assert row["params"]["threads"] >= 1
