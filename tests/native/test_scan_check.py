"""`scan_check.cpp`, the scanner's own test program, under the sanitizers and on an emulated aarch64."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.kernels.native.scan import read_bytes

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "kernels" / "native"
X86 = {
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"],
}
X86["vnni"] = [*X86["avx512"], "-mavx512vnni"]
X86["amx"] = [*X86["vnni"], "-mamx-tile", "-mamx-int8"]
AARCH64 = {"neon": ["-march=armv8.2-a+dotprod"]}


def build(folder: Path, compiler: str, flags: Sequence[str], levels: dict[str, list[str]]) -> Path:
    """The program, its files compiled by their suffixes as CMakeLists.txt does."""
    sources = [*NATIVE.glob("scan/*.cpp"), *NATIVE.glob("score*.cpp"), NATIVE / "isa.cpp"]
    sources.append(ROOT / "tests" / "native" / "scan_check.cpp")
    objects, running = [], []
    for source in sources:
        suffix = source.stem.rpartition("_")[2]
        if suffix in ({"neon"} | set(X86)) - set(levels):
            continue
        objects.append(folder / f"{source.stem}.o")
        command = [compiler, "-std=c++20", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *flags]
        if suffix == "amx":
            command += ["-include", str(ROOT / "tests" / "native" / "emulated_tiles.hpp")]
        command += [*levels.get(suffix, []), f"-I{NATIVE}", "-c", str(source), "-o", str(objects[-1])]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    failed = [process.communicate()[1] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(failed)
    program = folder / "scan_check"
    subprocess.run([compiler, *flags, *map(str, objects), "-o", str(program)], check=True)
    return program


def run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_no_undefined_behaviour_and_amx_on_emulated_tiles(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("there is no g++ to build the program with")
    architecture = subprocess.run(["g++", "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    if not architecture.startswith("x86_64"):
        pytest.skip("the emulated tiles need an x86-64 compiler")
    try:
        read_bytes(np.zeros(1, dtype=np.uint8), "vnni")
    except ValueError as error:
        pytest.skip(f"{error}: the kernel for AMX, though its tiles are emulated, needs it")
    flags = ["-O1", "-g", "-DMTAW_EMULATED_TILES", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    assert "portable avx2 avx512 vnni amx; 0 failures" in run([str(build(tmp_path, "g++", flags, X86))])


@pytest.mark.slow
def test_aarch64(tmp_path: Path) -> None:
    for tool, package in (
        ("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
        ("qemu-aarch64-static", "qemu-user-static"),
    ):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}: apt-get install {package}")
    program = build(tmp_path, "aarch64-linux-gnu-g++", ["-O2", "-static"], AARCH64)
    printed = run(["qemu-aarch64-static", str(program)])
    assert "instruction sets: portable neon; 0 failures" in printed
