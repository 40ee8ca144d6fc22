"""The native encoder in builds that Python cannot load: for aarch64 under an emulator, and under sanitizers."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from mtaw_fast.kernels.native import _native

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "kernels" / "native"
FLAGS = ("-std=c++20", "-O2", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow")
AVX2 = ("-mavx2", "-mfma")
LEVELS = {
    "avx2": AVX2,
    "avx512": (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
    "neon": ("-march=armv8.2-a+dotprod",),
}


def build(folder: Path, compiler: str, levels: tuple[str, ...], *options: str) -> Path:
    """Compile encode_check with `compiler`, warnings as errors; skips where there is no such compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    sources = [ROOT / "tests/kernels/encode_check.cpp", NATIVE / "isa.cpp", *(NATIVE / "encode").glob("*.cpp")]
    objects, jobs = [], []
    for source in sources:
        level = source.stem.rpartition("_")[2]
        if level in LEVELS and level not in levels:
            continue
        objects.append(folder / f"{source.stem}.o")
        command = [compiler, *FLAGS, "-Werror", *options, *LEVELS.get(level, ()), f"-I{NATIVE}"]
        jobs.append(subprocess.Popen([*command, "-c", source, "-o", objects[-1]], stderr=subprocess.PIPE, text=True))
    for job in jobs:
        assert job.wait() == 0, job.communicate()[1]
    program = folder / "encode_check"
    linked = subprocess.run(
        [compiler, *options, "-pthread", *objects, "-o", program], capture_output=True, text=True, check=False
    )
    assert linked.returncode == 0, linked.stderr
    return program


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr[-4000:]


@pytest.mark.slow
def test_aarch64(tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("qemu-aarch64-static is not installed")
    program = build(tmp_path, "aarch64-linux-gnu-g++", ("neon",), "-static")
    for isa in ("portable", "neon"):
        run("qemu-aarch64-static", program, isa)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sanitizers' builds are for x86-64")
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_no_sanitizer_reports(tmp_path: Path, sanitizer: str) -> None:
    program = build(tmp_path, "clang++-14", ("avx2", "avx512"), f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    order = ["portable", "avx2", "avx512"]
    levels = order if _native.cpu_isa() not in order else order[: order.index(_native.cpu_isa()) + 1]
    for isa in levels:
        run(program, isa)
