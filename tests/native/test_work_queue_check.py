"""`work_queue_check.cpp`, the test program of the helper threads, as it is and under the sanitizers."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.native.builds import NATIVE, ROOT, WARNINGS, command_of

SOURCES = (str(ROOT / "tests" / "native" / "work_queue_check.cpp"), str(NATIVE / "work_queue.cpp"))


@pytest.mark.parametrize(
    "sanitizers",
    ["", pytest.param("address,undefined", marks=pytest.mark.slow), pytest.param("thread", marks=pytest.mark.slow)],
)
def test_work_is_shared_by_whoever_is_there(tmp_path: Path, sanitizers: str) -> None:
    program = tmp_path / "work_queue_check"
    flags = [f"-fsanitize={sanitizers}", "-g"] if sanitizers else []
    command = ["g++", "-std=c++20", "-O1", "-pthread", *WARNINGS, *flags, f"-I{NATIVE}", *SOURCES, "-o", str(program)]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        pytest.skip("there is no g++")
    done = subprocess.run(command_of(program), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0 failures\n"), done.stderr
