"""The command `score`, its sessions as Parquet and as lists, and its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtaw_fast.cli import main

Rows = list[tuple[Any, list[Any]]]


def random_sessions(count: int, n_items: int = 60, seed: int = 0) -> Rows:
    """Some without clicks, some with clicks that no catalog knows."""
    rng = np.random.default_rng(seed)
    names = [f"sku-{item}" for item in range(n_items)] + ["gone", "never"]
    return [
        (f"visit-{row}", [names[item] for item in rng.integers(0, len(names), rng.integers(0, 9))])
        for row in range(count)
    ]


def write_sessions(path: Path, rows: Rows, group: int = 1 << 20, **columns: Any) -> Path:
    """Write sessions as `mtaw-fast score` reads them; `columns` are additional ones."""
    table = {"session_id": [name for name, _ in rows], "items": pa.array([items for _, items in rows])}
    pq.write_table(pa.table({**table, **columns}), path, row_group_size=group)
    return path


def read_scores(folder: Path) -> list[tuple[Any, list[Any], list[float]]]:
    """All rows of an output folder, in the order of its parts."""
    rows = []
    for part in sorted(folder.glob("part-*.parquet")):
        table = pq.read_table(part)
        rows += list(zip(*(table[name].to_pylist() for name in ("session_id", "items", "scores")), strict=True))
    return rows


ROWS = random_sessions(300)


def score(*arguments: object) -> int:
    return main(["score", *map(str, arguments), "--json"])


def one_line(capsys: pytest.CaptureFixture, named: str) -> bool:
    error = capsys.readouterr().err
    return error.count("\n") == 1 and named in error
