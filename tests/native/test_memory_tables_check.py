"""`memory_tables_check.cpp`, the memory tables' own test program, under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.native.builds import ROOT, build_or_skip, command_of

PROGRAM = ROOT / "tests" / "native" / "memory_tables_check.cpp"


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_builds_updates_and_damage_under_the_sanitizers(tmp_path: Path, sanitizers: str) -> None:
    flags = ["-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    program = build_or_skip(tmp_path, "g++", PROGRAM, flags, ["memory", "trends"])
    done = subprocess.run(command_of(program), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "0 failures\n"
