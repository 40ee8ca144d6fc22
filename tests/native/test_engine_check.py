"""`engine_check.cpp`: the engine under many threads and the sanitizers, without Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.native.test_scan_check import AARCH64, NATIVE, ROOT, X86


def build(folder: Path, compiler: str, levels: dict[str, list[str]], *options: str) -> Path:
    """The program, its files compiled by their suffixes as CMakeLists.txt does; skips without the compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} to build the program with")
    folders = ("engine", "encode", "ids", "scan")
    sources = [source for name in folders for source in (NATIVE / name).glob("*.cpp")]
    sources += [*NATIVE.glob("score*.cpp"), NATIVE / "isa.cpp", ROOT / "tests" / "native" / "engine_check.cpp"]
    objects, running = [], []
    for source in sources:
        suffix = source.stem.rpartition("_")[2]
        if source.stem == "python_ids" or suffix in ({"neon"} | set(X86)) - set(levels):
            continue
        objects.append(folder / f"{source.parent.name}-{source.stem}.o")
        command = [compiler, "-std=c++20", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", *options]
        command += [*levels.get(suffix, []), f"-I{NATIVE}", "-c", str(source), "-o", str(objects[-1])]
        running.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    failed = [process.communicate()[1] for process in running]
    assert all(process.returncode == 0 for process in running), "\n".join(failed)
    program = folder / "engine_check"
    subprocess.run([compiler, *options, "-pthread", *map(str, objects), "-o", str(program)], check=True)
    return program


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_many_threads_and_no_report(tmp_path: Path, sanitizer: str) -> None:
    architecture = subprocess.run(["g++", "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    levels = X86 if architecture.startswith("x86_64") else AARCH64
    options = ("-O1", "-g", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    program = build(tmp_path, "clang++-14", levels, *options)
    done = subprocess.run([program, "16", "150"], capture_output=True, text=True, timeout=500, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stdout + done.stderr[-4000:]
