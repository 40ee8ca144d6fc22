"""A short run of libFuzzer over the native engine: `tests.fuzz.engine` has the long one."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.fuzz.engine import build_target, fuzz
from tests.native.builds import CannotBuildError


@pytest.mark.slow
def test_no_input_fails(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the fuzzer's build is for x86-64")
    try:
        target = build_target(tmp_path, "clang++-14")
    except CannotBuildError as reason:
        pytest.skip(str(reason))
    done = fuzz(target, tmp_path, seconds=15, seed=1, failures=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = int(done.stderr.split("stat::number_of_executed_units:")[1].split()[0])
    assert runs > 200
