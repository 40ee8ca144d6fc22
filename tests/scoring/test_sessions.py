"""Reading the sessions that are scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.scoring.sessions import read_rows
from tests.support.scoring.command import ROWS
from tests.support.scoring.inputs import write_sessions


@pytest.mark.parametrize("group", [1, 7, 50, 1000])
def test_rows_are_read_in_exact_batches_wherever_groups_end(tmp_path: Path, group: int) -> None:
    path = write_sessions(tmp_path / "s.parquet", ROWS, group=group)
    for first, rows, most in [(0, 300, 64), (13, 100, 32), (299, 1, 64), (49, 51, 50)]:
        batches = list(read_rows(path, first, rows, most))
        assert [len(batch) for batch in batches[:-1]] == [most] * (len(batches) - 1)
        names = [name for batch in batches for name in batch.column(0).to_pylist()]
        assert names == [name for name, _ in ROWS[first : first + rows]]
