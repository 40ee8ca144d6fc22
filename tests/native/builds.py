"""Programs of the native sources without Python, in builds that Python could not load: sanitizers, fuzzing."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mtaw_fast.kernels.native import _native

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "kernels" / "native"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SERVING = ("encode", "engine", "ids", "memory", "scan", "trends")  # the parts of the native sources that answer
_AVX2 = ("-mavx2", "-mfma")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
# As CMakeLists.txt has them.
LEVELS = {
    "x86_64": {
        "avx2": _AVX2,
        "avx512": _AVX512,
        "vnni": (*_AVX512, "-mavx512vnni"),
        "bf16": (*_AVX512, "-mavx512vnni", "-mavx512bf16"),
        "amx": (*_AVX512, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
    },
    "aarch64": {"neon": ("-march=armv8.2-a+dotprod",)},
}
_SUFFIXES = {level for levels in LEVELS.values() for level in levels}


class CannotBuildError(Exception):
    """This machine lacks what the build needs; the message says what."""


def native_sources(parts: Sequence[str] = ("*",)) -> list[Path]:
    """The native sources that do not need Python: those of the folders `parts`, and what all of them share."""
    found = {*NATIVE.glob("*.cpp"), *(path for part in ("score", *parts) for path in NATIVE.glob(f"{part}/*.cpp"))}
    return sorted(path for path in found if not path.stem.startswith(("bind_", "python_", "module")))


def build(
    folder: Path,
    compiler: str,
    program: Path,
    flags: Sequence[str],
    *,
    parts: Sequence[str] = ("*",),
    machine: str | None = None,
    level_flags: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """Compile `program` and `native_sources(parts)` into `folder`, warnings as errors; returns the executable.

    flags: for compiling and linking alike. machine: what the compiler compiles for; this one where None. level_flags:
    more flags for the files of an instruction set. Raises CannotBuildError where the compiler, or a runtime that the
    flags ask for, is not installed.
    """
    if shutil.which(compiler) is None:
        raise CannotBuildError(f"there is no {compiler}")
    _check_runtime(folder, compiler, flags)
    levels = LEVELS.get(machine or platform.machine(), {})
    objects, jobs = [], []
    for source in [program, *native_sources(parts)]:
        level = source.stem.rpartition("_")[2]
        if level in _SUFFIXES and level not in levels:
            continue
        objects.append(folder / f"{source.parent.name}-{source.stem}.o")
        command = [compiler, "-std=c++20", "-ffp-contract=off", *WARNINGS, *flags, *levels.get(level, ())]
        command += (level_flags or {}).get(level, ())
        jobs.append((*command, f"-I{NATIVE}", "-c", str(source), "-o", str(objects[-1])))
    _run_all(jobs)
    executable = folder / program.stem
    _run_all([(compiler, *flags, "-pthread", *map(str, objects), "-o", str(executable))])
    return executable


def build_or_skip(
    folder: Path,
    compiler: str,
    program: Path,
    flags: Sequence[str],
    parts: Sequence[str],
    machine: str = "x86_64",
    level_flags: Mapping[str, Sequence[str]] | None = None,
) -> Path:
    """`build` for `machine`; skips the test that asks where this machine cannot."""
    if machine == "x86_64" and platform.machine() != machine:
        pytest.skip("the sanitizers' builds are for x86-64")
    try:
        return build(folder, compiler, program, flags, parts=parts, machine=machine, level_flags=level_flags)
    except CannotBuildError as reason:
        pytest.skip(str(reason))


def command_of(executable: Path, *arguments: str | Path) -> list[str]:
    """The command that runs a build: with a fixed address space, which older ThreadSanitizers need, where that can be
    had."""
    fixed = ["setarch", platform.machine(), "-R"]
    usable = shutil.which("setarch") and subprocess.run([*fixed, "true"], capture_output=True, check=False)
    return [*(fixed if usable and usable.returncode == 0 else []), str(executable), *map(str, arguments)]


def instruction_sets() -> list[str]:
    """Those with kernels of their own that this CPU has, the least first."""
    order = ["portable", *LEVELS.get(platform.machine(), {})]
    return order[: order.index(_native.cpu_isa()) + 1]


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    """Run the commands, as many at once as there are CPUs; RuntimeError with what the first failing one said."""
    waiting, running = list(commands), []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            running.append(subprocess.Popen(waiting.pop(0), stderr=subprocess.PIPE, text=True))
        said = (job := running.pop(0)).communicate()[1]
        if job.returncode != 0:
            for other in running:
                other.kill()
                other.communicate()
            raise RuntimeError(said)


def _check_runtime(folder: Path, compiler: str, flags: Sequence[str]) -> None:
    probe = folder / "probe.cpp"
    fuzzed = any("fuzzer" in flag for flag in flags)
    probe.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }\n'
                     if fuzzed else "int main() {}\n")  # fmt: skip
    done = subprocess.run([compiler, *flags, str(probe), "-o", str(folder / "probe")], capture_output=True, check=False)
    if done.returncode != 0:
        raise CannotBuildError(f"{compiler} cannot build with {' '.join(flags)} here")
