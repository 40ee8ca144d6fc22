"""What a log held, as text: counts, a bar chart of its days, what looks wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

_BARS = 28  # rows of the chart, at most
_WIDTH = 40
_PARTS = " ▏▎▍▌▋▊▉█"  # eighths
_GAP_DAYS = 30  # without a click, that the chart leaves out


def report_lines(log: Mapping[str, Any]) -> list[str]:
    """The counts of a `LogReport.as_dict()`, warnings last."""
    share = log["unseen_clicks"] / log["test_clicks"] if log["test_clicks"] else 0.0
    left_out = f", {log['dropped_repeats']:,} left out" if log["dropped_repeats"] else ""
    lines = [
        f"rows         {log['rows']:,}, {log['bad_rows']:,} bad; {log['clicks']:,} clicks",
        f"duplicates   {log['repeats']:,} at the same time as the same click, {log['near_repeats']:,} within a second "
        f"of it{left_out}",
        f"sessions     {log['sessions']:,}: {log['short_sessions']:,} too short, {log['long_sessions']:,} too long; "
        f"the longest has {log['longest']:,} clicks",
        f"items        {log['items']:,}: {log['rare_items']:,} under support",
        f"test clicks  {log['test_clicks']:,}: {share:.1%} on items that training never saw",
    ]
    if log["days"]:
        lines += ["clicks a day (UTC)", *day_bars(log["days"])]
    return [*lines, *(f"warning: {text}" for text in log["warnings"])]


def day_bars(days: Mapping[str, int]) -> list[str]:
    """A row a day, or for a long log a row for so many days, with the mean of a day; long gaps are one row."""
    numbers = np.array(list(days), dtype="datetime64[D]").astype(np.int64)
    counts = np.array(list(days.values()), dtype=np.float64)
    runs = np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) > _GAP_DAYS) + 1)
    covered = sum(int(numbers[run[-1]] - numbers[run[0]]) + 1 for run in runs)
    step = -(-covered // _BARS)
    rows: list[tuple[int, float]] = []
    for run in runs:
        for begin in range(int(numbers[run[0]]), int(numbers[run[-1]]) + 1, step):
            within = run[(numbers[run] >= begin) & (numbers[run] < begin + step)]
            rows.append((begin, counts[within].sum() / min(step, int(numbers[run[-1]]) + 1 - begin)))
    most = max(value for _, value in rows)
    return list(_drawn(rows, most, step))


def _drawn(rows: list[tuple[int, float]], most: float, step: int) -> Iterator[str]:
    after = rows[0][0]
    for day, value in rows:
        if day - after > _GAP_DAYS:
            yield f"  .. {day - after:,} days without a click"
        eighths = round(8 * _WIDTH * value / most) if value else 0
        bar = _PARTS[-1] * (eighths // 8) + (_PARTS[eighths % 8] if eighths % 8 else "")
        yield f"  {np.datetime64(day, 'D')} {bar or ('▏' if value else '')} {value:,.0f}"
        after = day + step
