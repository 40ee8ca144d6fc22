"""What a `LogReport.as_dict()` says, in words, and its clicks by day: for the command line and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_GAP_DAYS = 30  # a longer run of days without a click is no row


def log_rows(log: Mapping[str, Any], n_items: int) -> dict[str, str]:
    """Return the counts of a log by what they count. n_items: in the catalog."""
    share = log["unseen_clicks"] / log["test_clicks"] if log["test_clicks"] else 0.0
    more = {
        "left_out_rows": "of types left out",
        "outside_rows": "outside --since and --until",
        "merged_clicks": "merged into a click of another type on the same item (--merge-types)",
    }
    elsewhere = log["items"] - log["rare_items"] - n_items
    rare = f", {log['rare_sessions']:,} too short without items under support" if log.get("rare_sessions") else ""
    left_out = f", {log['dropped_repeats']:,} left out" if log["dropped_repeats"] else ""
    return {
        "rows": f"{log['rows']:,}, {log['bad_rows']:,} bad; {log['clicks']:,} clicks"
        + "".join(f"; {log[name]:,} {text}" for name, text in more.items() if log[name]),
        "duplicates": f"{log['repeats']:,} at the same time as the same click, {log['near_repeats']:,} within a second "
        f"of it{left_out}",
        "sessions": f"{log['sessions']:,}: {log['short_sessions']:,} too short{rare}, {log['long_sessions']:,} too "
        f"long; the longest has {log['longest']:,} clicks",
        "bots": f"{log['long_sessions'] + log['burst_sessions']:,} left out: {log['long_sessions']:,} too long, "
        f"{log['burst_sessions']:,} too fast",
        "items": f"{log['items']:,}: {log['rare_items']:,} under support, {elsewhere:,} only in sessions left out or "
        f"in the test; {n_items:,} in the catalog",
        "test clicks": f"{log['test_clicks']:,}: {share:.1%} on items that training never saw",
    }


@dataclass(frozen=True, slots=True)
class DayRow:
    """Days of a log. first: ISO 8601. mean: clicks a day. gap: days without a click before, if they are no row."""

    first: str
    mean: float
    gap: int


def day_rows(days: Mapping[str, int], most: int) -> list[DayRow]:
    """Return rows of one day each, or of several if that made more than `most` rows."""
    numbers = np.array(list(days), dtype="datetime64[D]").astype(np.int64)
    counts = np.array(list(days.values()), dtype=np.float64)
    runs = np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers) > _GAP_DAYS) + 1) if days else []
    ends = [(int(numbers[run[0]]), int(numbers[run[-1]]) + 1) for run in runs]
    step = -(-sum(end - begin for begin, end in ends) // most)
    rows: list[DayRow] = []
    next_day = ends[0][0] if ends else 0
    for begin, end in ends:
        for day in range(begin, end, step):
            clicks = counts[(numbers >= day) & (numbers < min(day + step, end))].sum()
            gap = day - next_day if day - next_day > _GAP_DAYS else 0
            rows.append(DayRow(str(np.datetime64(day, "D")), float(clicks / min(step, end - day)), gap))
            next_day = day + step
    return rows
