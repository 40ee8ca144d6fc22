"""The native encoder in builds that Python cannot load: for aarch64 under an emulator, and under sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.builds import ROOT, build_or_skip, command_of, instruction_sets

PROGRAM = ROOT / "tests" / "kernels" / "encode_check.cpp"


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr[-4000:]


@pytest.mark.slow
def test_aarch64(tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is not installed")
    flags = ("-O2", "-static")
    program = build_or_skip(tmp_path, "aarch64-linux-gnu-g++", PROGRAM, flags, ["encode"], machine="aarch64")
    for isa in ("portable", "neon"):
        run("qemu-aarch64-static", program, isa)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_no_sanitizer_reports(tmp_path: Path, sanitizer: str) -> None:
    flags = ("-O2", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    program = build_or_skip(tmp_path, "clang++-14", PROGRAM, flags, ["encode"])
    for isa in [name for name in instruction_sets() if name in ("portable", "avx2", "avx512")]:
        run(*command_of(program, isa))
