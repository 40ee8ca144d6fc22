"""`scan_check.cpp`, the scanner's own test program, under the sanitizers and on an emulated aarch64."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.kernels.native.scan import read_bytes
from tests.native.builds import ROOT, build_or_skip

PROGRAM = ROOT / "tests" / "native" / "scan_check.cpp"


def run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_no_undefined_behavior_and_amx_on_emulated_tiles(tmp_path: Path) -> None:
    try:
        read_bytes(np.zeros(1, dtype=np.uint8), "vnni")
    except ValueError as error:
        pytest.skip(f"{error}: the kernel for AMX, though its tiles are emulated, needs it")
    flags = ["-O1", "-g", "-DMTAW_EMULATED_TILES", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    tiles = {"amx": ["-include", str(ROOT / "tests" / "native" / "emulated_tiles.hpp")]}
    program = build_or_skip(tmp_path, "g++", PROGRAM, flags, ["scan"], level_flags=tiles)
    assert "portable avx2 avx512 vnni amx; 0 failures" in run([str(program)])


@pytest.mark.slow
def test_aarch64(tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("there is no qemu-aarch64-static: apt-get install qemu-user-static")
    flags = ["-O2", "-static"]
    program = build_or_skip(tmp_path, "aarch64-linux-gnu-g++", PROGRAM, flags, ["scan"], machine="aarch64")
    printed = run(["qemu-aarch64-static", str(program)])
    assert "instruction sets: portable neon; 0 failures" in printed
