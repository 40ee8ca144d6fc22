"""Programs of the native sources without Python, in builds that Python could not load: sanitizers, fuzzing.

Objects and programs are kept in the test cache (`tests.support.cache`), so that tests with the same flags share objects
and a second run compiles nothing. A cached object is used again only if all of these are equal: its source files; every
header that they include with quotes, directly or not; every file that a flag names; the flags; the compiler's path and
its `--version`, which names the distribution's package; the target; the version of the C library. A cached program's
key is made of its objects' keys and the flags.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

from mtaw_fast.kernels.native import _native
from tests.support.cache import ROOT, cache_folder, cached, digest

NATIVE = ROOT / "kernels" / "native"
LIBMTAW = ROOT / "libmtaw"
_INCLUDES = (NATIVE, LIBMTAW / "src", LIBMTAW / "include")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SERVING = ("encode", "ids", "memory", "rank", "scan", "trends")  # the parts of the native sources that answer
SANITIZERS = ("thread", "address,undefined")
CLANG = "clang++-14"
# Not optimized, so that the whole engine compiles in half a minute of processor time.
SMOKE = ("-O0", "-g1", "-fsanitize=address", "-fno-sanitize-recover=all")
_AVX2 = ("-mavx2", "-mfma")
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl")
# As CMakeLists.txt has them.
LEVELS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "avx2": _AVX2,
        "avx512": _AVX512,
        "vnni": (*_AVX512, "-mavx512vnni"),
        "bf16": (*_AVX512, "-mavx512vnni", "-mavx512bf16"),
        "amx": (*_AVX512, "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"),
    },
    "aarch64": {"neon": ("-march=armv8.2-a+dotprod",)},
    "wasm32": {"wasm": ("-msimd128",)},
}
_SUFFIXES = {level for levels in LEVELS.values() for level in levels}
_INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


class CannotBuildError(Exception):
    """The host lacks what the build needs; the message says what."""


def sanitized(sanitizers: str, compiler: str = CLANG) -> tuple[str, ...]:
    """Return the flags of a build with these sanitizers: the first report ends the program.

    Clang's objects for addresses can be linked with libFuzzer, so that the fuzzers need none of their own.
    """
    if (sanitizers, compiler) == (SANITIZERS[1], CLANG):
        sanitizers = f"fuzzer-no-link,{sanitizers}"
    return ("-O1", "-g1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")


def native_sources(parts: Sequence[str]) -> list[Path]:
    """Return the native sources that do not need Python: those of the folders `parts`, and what all of them share.

    The part "libmtaw" is the C interface.
    """
    paths = {
        *NATIVE.glob("*.cpp"),
        *(path for part in ("score", "keys", *parts) for path in NATIVE.glob(f"{part}/*.cpp")),
        *(LIBMTAW.glob("src/*.cpp") if "libmtaw" in parts else ()),
    }
    return sorted(path for path in paths if not path.stem.startswith(("bind_", "python_", "module")))


def included_by(file: Path) -> list[Path]:
    """Return the headers that a file includes with quotes."""
    names = _INCLUDE.findall(file.read_text())
    places = [[folder / name for folder in (file.parent, *_INCLUDES)] for name in names]
    return [next(place for place in candidates if place.is_file()) for candidates in places]


def build(
    compiler: str,
    program: Path,
    flags: Sequence[str],
    *,
    parts: Sequence[str],
    target: str | None = None,
    level_flags: Mapping[str, Sequence[str]] | None = None,
    link_flags: Sequence[str] = (),
) -> Path:
    """Compile `program` and `native_sources(parts)`, warnings as errors, and return the executable.

    Parameters
    ----------
    compiler : str
        GCC or Clang, as the shell finds it.
    program : Path
        The source file with `main`.
    flags : sequence of str
        For compiling and linking.
    parts : sequence of str
        Folders of the native sources.
    target : str, optional
        The processor that the compiler compiles for; this host's by default.
    level_flags : mapping, optional
        More flags for the files of an instruction set.
    link_flags : sequence of str
        More flags for linking.

    Raises
    ------
    CannotBuildError
        The compiler, or a runtime that the flags need, is not installed.
    RuntimeError
        A source does not compile; the message is the compiler's.
    """
    target = target or platform.machine()
    compiled_by = (_compiler_version(compiler), target)
    _check_runtime(compiler, compiled_by, (*flags, *link_flags))
    levels = LEVELS.get(target, {})
    jobs: list[tuple[str, list[str]]] = []
    for unit in [[program], *_units(native_sources(parts))]:
        level = unit[0].stem.rpartition("_")[2]
        if level in _SUFFIXES and level not in levels:
            continue
        options = ["-std=c++20", "-ffp-contract=off", *WARNINGS, *flags, *levels.get(level, ())]
        options += (level_flags or {}).get(level, ())
        inputs = [*_inputs(unit), *(Path(option) for option in options if Path(option).is_file())]
        sources = [option for source in unit for option in ("-include", str(source))]
        command = [compiler, *options, *(f"-I{folder}" for folder in _INCLUDES), *sources, "-xc++", "-c", "/dev/null"]
        jobs.append((digest(compiled_by, options, unit, *inputs), [*command, "-o"]))
    key = digest([key for key, _ in jobs], flags, link_flags)

    def link(executable: Path) -> None:
        objects = _compile(jobs)
        command = [compiler, *flags, *link_flags, "-pthread", *map(str, objects), "-o"]
        _run_all([([*command, f"{executable}.linked"], executable)])

    return cached("programs", key, link)


def build_or_skip(
    compiler: str,
    program: Path,
    flags: Sequence[str],
    parts: Sequence[str],
    target: str = "x86_64",
    level_flags: Mapping[str, Sequence[str]] | None = None,
    link_flags: Sequence[str] = (),
) -> Path:
    """Call `build` for `target`; skip the test if this host cannot."""
    if target == "x86_64" and platform.machine() != target:
        pytest.skip("the sanitizers' builds are for x86-64")
    try:
        return build(
            compiler, program, flags, parts=parts, target=target, level_flags=level_flags, link_flags=link_flags
        )
    except CannotBuildError as reason:
        pytest.skip(str(reason))


def command_of(executable: Path, *arguments: str | Path) -> list[str]:
    """Return the command that runs a build, with a fixed address space if possible: older ThreadSanitizers need it."""
    fixed = ["setarch", platform.machine(), "-R"]
    usable = shutil.which("setarch") and subprocess.run([*fixed, "true"], capture_output=True, check=False)
    return [*(fixed if usable and usable.returncode == 0 else []), str(executable), *map(str, arguments)]


def instruction_sets() -> list[str]:
    """Return those with kernels of their own that this CPU has, the least first."""
    order = ["portable", *LEVELS.get(platform.machine(), {})]
    return order[: order.index(_native.cpu_isa()) + 1]


@cache
def _compiler_version(compiler: str) -> tuple[str, ...]:
    path = shutil.which(compiler)
    if path is None:
        raise CannotBuildError(f"there is no {compiler}")
    process = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    return (os.path.realpath(path), process.stdout, " ".join(platform.libc_ver()))


def _units(sources: Sequence[Path]) -> list[list[Path]]:
    """Return what is compiled together, as in CMakeLists.txt: a folder's files but those of an instruction set."""
    folders: dict[Path, list[Path]] = {}
    alone = []
    for source in sources:
        if source.stem.rpartition("_")[2] in {"portable", *_SUFFIXES}:
            alone.append([source])
        else:
            folders.setdefault(source.parent, []).append(source)
    return [*folders.values(), *alone]


def _inputs(unit: Sequence[Path]) -> list[Path]:
    """Return the sources and every header that they include with quotes, directly or not."""
    inputs: set[Path] = set()
    waiting = list(unit)
    while waiting:
        path = waiting.pop()
        if path not in inputs:
            inputs.add(path)
            waiting += included_by(path)
    return sorted(inputs)


def _compile(jobs: Sequence[tuple[str, list[str]]]) -> list[Path]:
    """Compile what the cache lacks, several files at once; return the objects."""
    folder = cache_folder() / "objects"
    folder.mkdir(exist_ok=True)
    objects = [folder / f"{key}.o" for key, _ in jobs]
    _run_all([([*command, f"{path}.{os.getpid()}"], path) for path, (_, command) in zip(objects, jobs, strict=True)
              if not path.exists()])  # fmt: skip
    for path in objects:
        os.utime(path)
    return objects


def _run_all(commands: Sequence[tuple[Sequence[str], Path]]) -> None:
    """Run commands, as many at once as there are CPUs, and rename the last argument of each to its path.

    Raises RuntimeError with the output of the first command that fails.
    """
    waiting, running = list(commands), []
    while waiting or running:
        while waiting and len(running) < (os.cpu_count() or 1):
            command, path = waiting.pop(0)
            running.append((subprocess.Popen(command, stderr=subprocess.PIPE, text=True), command[-1], path))
        job, written, path = running.pop(0)
        errors = job.communicate()[1]
        if job.returncode != 0:
            for other, _, _ in running:
                other.kill()
                other.communicate()
            raise RuntimeError(errors)
        Path(written).replace(path)


def _check_runtime(compiler: str, compiled_by: object, flags: Sequence[str]) -> None:
    """Link an empty program, to find out whether the flags' runtimes are installed."""
    fuzzed = any(flag.startswith("-fsanitize=fuzzer") and "no-link" not in flag for flag in flags)
    empty = (
        'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' if fuzzed else "int main() {}"
    )

    def link(executable: Path) -> None:
        command = [compiler, *flags, "-x", "c++", "-", "-o", str(executable)]
        process = subprocess.run(command, input=f"{empty}\n", capture_output=True, text=True, check=False)
        if process.returncode != 0:
            raise CannotBuildError(f"{compiler} cannot build with {' '.join(flags)} here")

    cached("probes", digest(compiled_by, flags, empty), link)
