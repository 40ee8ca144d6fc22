"""Comparing two runs: what counts as slower, what is never judged, and what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main
from bench.suite.comparing import Change
from tests.support.bench.rows import MACHINE, row

Compared = Callable[..., tuple[int, str]]


def saved(path: Path, *rows: dict[str, Any], machine: dict[str, Any] | None = None) -> str:
    path.write_text(json.dumps({"schema": 1, "machine": machine or MACHINE, "commit": None, "results": list(rows)}))
    return str(path)


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compared:
    """Compares two lists of rows; the exit code, and what was printed."""

    def run(old: list[dict[str, Any]], new: list[dict[str, Any]], *options: str) -> tuple[int, str]:
        paths = saved(tmp_path / "old.json", *old), saved(tmp_path / "new.json", *new)
        return main(["compare", *paths, *options]), capsys.readouterr().out

    return run


def test_equal_runs_pass(compared: Compared) -> None:
    rows = [row(), row(2.0, case="ladder"), row(2.0, case="ladder"), row(None, case="apart"), {"bench": "quality"}]
    code, printed = compared(rows, rows)
    assert code == 0
    assert "3 ratios judged: 0 slower, 0 faster, 0 changed within 15%, 3 the same within their intervals" in printed


def test_a_slowdown_by_30_percent_fails_and_is_named(compared: Compared) -> None:
    """Rows that are equal but for their figures are matched in their order."""
    code, printed = compared([row(), row(2.0)], [row(4 / 1.3), row(2.0)])
    assert code == 1
    assert "2 ratios judged: 1 slower, 0 faster" in printed
    assert "SLOWER by more than 15% compared with the peer:\n  retrieval exact (catalog=1000 threads=1)" in printed
    assert "ratio 4.00 [3.80, 4.20] -> 3.08 [2.92, 3.23], 0.77 times [" in printed


def test_what_does_not_fail(compared: Compared) -> None:
    """Times, chance, gains, ratios without an interval, and rows of one run alone."""
    slow = {"p50": 500.0, "p95": 600.0, "p99": 700.0}
    code, printed = compared([row(), row(None, case="alone")], [row(**slow), row(None, case="alone", **slow)])
    assert code == 0
    alone = "  retrieval alone (catalog=1000 threads=1) latency_us: 50 -> 500"
    assert f"not judged, without a peer in their process:\n{alone}" in printed
    assert compared([row(spread=0.3)], [row(4 / 1.3, spread=0.3)])[0] == 0
    code, printed = compared([row(), row(case="old")], [row(8.0), row(case="new")])
    assert code == 0
    assert "faster by more than 15%:" in printed
    assert "only in OLD:\n  retrieval old" in printed
    assert "only in NEW:\n  retrieval new" in printed
    code, printed = compared([row(spread=None)], [row(1.0, None)])
    assert code == 0
    assert "not judged: no interval:\n  retrieval exact" in printed


def test_the_interval_is_that_of_two_independent_ratios() -> None:
    rng = np.random.default_rng(0)
    old, new = np.exp(rng.normal(0, 0.04, 200_000)) * 4, np.exp(rng.normal(0, 0.03, 200_000)) * 3
    rows = [
        row(float(np.median(drawn)), None)
        | dict(zip(("ratio_low", "ratio_high"), np.quantile(drawn, (0.025, 0.975)).tolist(), strict=True))
        for drawn in (old, new)
    ]
    change = Change.of(*rows)
    assert (change.low, change.high) == pytest.approx(np.quantile(new / old, (0.025, 0.975)).tolist(), rel=2e-3)


def test_the_threshold_is_the_callers(compared: Compared) -> None:
    pair = [row(spread=0.01)], [row(3.6, spread=0.01)]
    assert compared(*pair)[0] == 0
    assert "changed, within the threshold:" in compared(*pair)[1]
    assert compared(*pair, "--threshold", "0.05")[0] == 1


@pytest.mark.parametrize("name", ["backend", "nprobe", "recall"])
def test_a_row_whose_code_took_another_way_is_still_judged(compared: Compared, name: str) -> None:
    params = row()["params"]
    code, printed = compared([row(params=params | {name: 1})], [row(0.8, params=params | {name: 2})])
    assert code == 1
    assert "only in" not in printed
    assert ("compared, although our code took another way:\n  retrieval" in printed) == (name != "recall")
    assert (f": {name} 1 -> 2" in printed) == (name != "recall")


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = saved(tmp_path / "here", row())
    newer = {"packages": {"numpy": "2.5.0", "mtaw-fast": "0.2.0"}}
    other = saved(tmp_path / "other", row(), machine=MACHINE | {"cores": 16} | newer)
    assert main(["compare", here, other, "--any-machine"]) == 0
    assert "other versions, which may change the peers: numpy 2.4.0 -> 2.5.0\n" in capsys.readouterr().out
    (tmp_path / "text").write_text("{")
    (tmp_path / "list").write_text("[]")
    (tmp_path / "bare").write_text('{"schema": 1, "results": []}')
    for options, code, message in (
        ([other], 2, "amd-f26-m2-avx512bf16-2c"),
        ([saved(tmp_path / "apart", row(None))], 2, "nothing to judge"),
        ([str(tmp_path / "none")], 1, "there is no such result file"),
        ([str(tmp_path / "text")], 1, "text"),
        ([str(tmp_path / "list")], 1, "no result file of schema 1"),
        ([str(tmp_path / "bare")], 1, "no result file of schema 1"),
        ([here, "--threshold", "nan"], 2, "give a share between 0 and 1"),
    ):
        assert main(["compare", here, *options]) == code
        assert message in capsys.readouterr().err
