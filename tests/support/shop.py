"""A small shop that drifts: a file of clicks a day, and days that are wrong in one way each."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

DAY = 86_400
FIRST = datetime.date(2026, 3, 2)
BEGIN = round(datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC).timestamp())
_HEAD = "session_id,item_id,timestamp"

TRAINING = ("epochs = 1", "embedding_dim = 16", "lr = 0.03", "batch_prefixes = 64", "validation_fraction = 0.1")
CONFIG = """
bundles = "shop"
[log]
source = "clicks/%Y-%m-%d.csv"
min_support = 2
history = 30
[train]
every = "{every}"
preset = "full"
[train.set]
{settings}
[must_hold]
"P@20" = 2.0
[watch]
seconds = 0
"""


def name_of(day: int) -> str:
    return str(FIRST + datetime.timedelta(days=day))


def now_after(day: int) -> float:
    """Unix seconds an hour after the end of a day."""
    return BEGIN + (day + 1) * DAY + 3600.0


def rows_of(day: int, sessions: int = 120, items: int = 60) -> list[str]:
    """Walks around a ring whose items are renewed, one a day."""
    rng = np.random.default_rng(day)
    rows = []
    for session in range(sessions):
        start, length = rng.integers(0, items), rng.integers(2, 8)
        begin = BEGIN + day * DAY + session * (DAY - 3600) // sessions
        for click in range(length):
            place = int(start + click) % items
            renewed = (day + items - 1 - place) // items
            rows.append(f"{day}-{session},sku-{place + items * renewed},{begin + 40 * click}")
    return rows


def _bot(day: int) -> list[str]:
    begin = BEGIN + day * DAY
    return [*rows_of(day), *(f"bot,sku-{click % 50},{begin + click % DAY}" for click in range(2000))]


def _one_item(day: int) -> list[str]:
    begin = BEGIN + day * DAY
    bots = [f"b{click // 3},sku-7,{begin + 40 * click}" for click in range(1500)]
    return [*rows_of(day), *bots]


BAD_DAYS: Mapping[str, Callable[[int], list[str]]] = {
    "empty": lambda day: [f"late,sku-1,{BEGIN + (day + 300) * DAY}"],
    "short": lambda day: rows_of(day, 12),
    "long": lambda day: rows_of(day, 1200),
    "clock": lambda day: [*rows_of(day)[:200], *rows_of(day + 1)],
    "hours": lambda day: [row for row in rows_of(day, 400) if int(row.split(",")[2]) % DAY < DAY // 4],
    "bots": _bot,
    "busiest item": _one_item,
    "items": lambda day: [row.replace("sku-", "other-") for row in rows_of(day)],
    "sessions": lambda day: [f"same{number // 200},{row.split(',', 1)[1]}" for number, row in enumerate(rows_of(day))],
    "twice": lambda day: [row for row in rows_of(day) for _ in range(2)],
}


def write_day(folder: Path, day: int, rows: list[str] | None = None, head: str = _HEAD) -> None:
    """Write the file of a day into `clicks`; rows: instead of its own."""
    clicks = folder / "clicks"
    clicks.mkdir(exist_ok=True)
    lines = [head, *(rows_of(day) if rows is None else rows)]
    (clicks / f"{name_of(day)}.csv").write_text("\n".join(lines) + "\n")


def write_config(folder: Path, every: str = "5d", more: str = "") -> Path:
    path = folder / "shop.toml"
    path.write_text(more + CONFIG.format(every=every, settings="\n".join(TRAINING)))
    return path
