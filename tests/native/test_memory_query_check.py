"""`memory_query_check.cpp`, the memory queries' own test program, under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.native.builds import ROOT, build_or_skip, command_of, instruction_sets

PROGRAM = ROOT / "tests" / "native" / "memory_query_check.cpp"


@pytest.mark.slow
def test_queries_and_damage_under_the_sanitizers(tmp_path: Path) -> None:
    flags = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    program = build_or_skip(tmp_path, "g++", PROGRAM, flags, ["memory", "trends"])
    isas = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]
    done = subprocess.run(command_of(program, *isas), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "0 failures\n"
