"""Sixteen threads of mixed calls over a mapped bundle under the sanitizers: a short form of `tests.native.stress`."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.native.builds import CannotBuildError, instruction_sets
from tests.native.stress import SANITIZERS, build_stress, run_stress


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_threads_agree_and_no_sanitizer_reports(tmp_path: Path, sanitizer: str) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("the sanitizers' builds are for x86-64")
    try:
        program = build_stress(tmp_path, "clang++-14", sanitizer)
    except CannotBuildError as reason:
        pytest.skip(str(reason))
    for number, isa in enumerate(instruction_sets()):
        folder = tmp_path / isa
        folder.mkdir()
        calls = 400 if number == 0 else 1000
        assert run_stress(program, folder, isa, threads=16, calls=calls, timeout=200) == "ok"
