"""A short run of libFuzzer over the native engine: `tests.fuzz.engine` has the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine import FLAGS, PROGRAM, fuzz
from tests.native.builds import SERVING, build_or_skip


@pytest.mark.slow
def test_no_input_fails(tmp_path: Path) -> None:
    target = build_or_skip(tmp_path, "clang++-14", PROGRAM, FLAGS, SERVING)
    done = fuzz(target, tmp_path, seconds=15, seed=1, failures=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = int(done.stderr.split("stat::number_of_executed_units:")[1].split()[0])
    assert runs > 200
