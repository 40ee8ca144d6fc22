"""The facts of a report: its bars by day."""

from __future__ import annotations

import numpy as np
import pytest

from mtaw_fast.report.facts import day_bars


def test_days_without_a_click_count() -> None:
    bars = day_bars({"2024-05-01": 900, "2024-05-03": 300})
    assert [(bar["name"], bar["count"], bar["share"]) for bar in bars] == [
        ("2024-05-01", "900", 100.0), ("2024-05-02", "0", 0.0), ("2024-05-03", "300", pytest.approx(100 / 3)),
    ]  # fmt: skip
    long = {str(np.datetime64("2024-01-01") + day): 10 for day in range(365)}
    assert len(day_bars(long)) <= 40
    assert {bar["count"] for bar in day_bars(long)} == {"10"}
    assert day_bars({}) == []
