"""Sixteen threads of mixed calls over a mapped bundle under the sanitizers: a short form of `tests.native.stress`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.native.builds import CLANG, SANITIZERS, SERVING, build_or_skip, instruction_sets, sanitized
from tests.native.stress import PROGRAM, run_stress


@pytest.mark.long(caught="tests/libmtaw/test_sanitizers.py, the smoke: eight threads, each answer that of one")
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_threads_agree_and_no_sanitizer_reports(tmp_path: Path, sanitizer: str) -> None:
    program = build_or_skip(CLANG, PROGRAM, sanitized(sanitizer), SERVING)
    for isa in instruction_sets():
        for nested in (False, True):
            folder = tmp_path / f"{isa}-{nested}"
            folder.mkdir()
            assert run_stress(program, folder, isa, threads=16, calls=150, timeout=200, nested=nested) == "ok"
    for isa in instruction_sets():
        if isa in ("portable", "avx2", "avx512"):  # those with kernels of the memory's
            folder = tmp_path / f"{isa}-memory"
            folder.mkdir()
            assert run_stress(program, folder, isa, threads=16, calls=40, timeout=200, memory=True) == "ok"
    folder = tmp_path / "learning"
    folder.mkdir()
    isa = instruction_sets()[-1]
    assert run_stress(program, folder, isa, threads=8, calls=1500, timeout=200, memory=True, learn=True) == "ok"
