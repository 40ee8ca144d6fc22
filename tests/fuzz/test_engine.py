"""Short runs of libFuzzer over the native engine and the session memory: `tests.fuzz.engine` has the long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine import FLAGS, LINKED, TARGETS, fuzz
from tests.native.builds import CLANG, build_or_skip


@pytest.mark.long(caught="tests/kernels/test_scan.py, tests/memory/test_queries.py: drawn inputs against brute force")
@pytest.mark.parametrize(("name", "seconds"), [("engine", 15), ("memory", 10)])
def test_no_input_fails(tmp_path: Path, name: str, seconds: int) -> None:
    program, parts = TARGETS[name]
    target = build_or_skip(CLANG, program, FLAGS, parts, link_flags=LINKED)
    process = fuzz(target, tmp_path, seconds=seconds, seed=1, failures=tmp_path)
    assert process.returncode == 0, process.stderr[-4000:]
    runs = int(process.stderr.split("stat::number_of_executed_units:")[1].split()[0])
    assert runs > 200
