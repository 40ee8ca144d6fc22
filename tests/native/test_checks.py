"""The test programs of the native sources (*_check.cpp): under sanitizers, and for aarch64 in an emulator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.kernels.native.scan import read_bytes
from tests.native.builds import (
    CLANG,
    ROOT,
    SANITIZERS,
    SERVING,
    CannotBuildError,
    build,
    build_or_skip,
    command_of,
    instruction_sets,
    sanitized,
)  # fmt: skip

FOLDER = ROOT / "tests" / "native"
PARTS = {"work_queue": (), "change_lock": (), "memory_tables": ("memory", "trends"),
         "learning": ("memory", "trends"), "encode": ("encode",)}  # fmt: skip
SEARCHES = ROOT / "tests" / "fuzz" / "engine_fuzz.cpp"
THREAD, ADDRESS = SANITIZERS
ISAS = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]


def run(command: list[str]) -> str:
    process = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert process.returncode == 0, process.stdout + process.stderr[-4000:]
    return process.stdout


def sanitized_program(name: str, sanitizers: str) -> Path:
    """Build with Clang, whose objects the fuzzers use too; without it, with GCC.

    The work queue's check, which forks, is always built with GCC: Clang's ThreadSanitizer refuses threads after a fork.
    """
    program = FOLDER / f"{name}_check.cpp"
    if name != "work_queue":
        try:
            return build(CLANG, program, sanitized(sanitizers), parts=PARTS[name], target="x86_64")
        except CannotBuildError:
            pass
    return build_or_skip("g++", program, sanitized(sanitizers, "g++"), PARTS[name])


def test_work_is_shared_by_all_threads() -> None:
    program = build_or_skip("g++", FOLDER / "work_queue_check.cpp", ["-O1"], PARTS["work_queue"])
    assert run(command_of(program)) == "0 failures\n"


def test_readers_let_a_writer_go_first_and_a_fork_waits_for_it() -> None:
    program = build_or_skip("g++", FOLDER / "change_lock_check.cpp", ["-O1"], PARTS["change_lock"])
    assert run(command_of(program)) == "0 failures\n"


@pytest.mark.long(caught="tests/libmtaw/test_sanitizers.py, the smoke; tests/memory and tests/kernels: wrong results")
@pytest.mark.parametrize(
    ("name", "sanitizers", "isas"),
    [
        ("work_queue", ADDRESS, None),
        ("work_queue", THREAD, None),
        ("memory_tables", ADDRESS, None),
        ("memory_tables", THREAD, None),
        ("learning", ADDRESS, ISAS),
        ("learning", THREAD, ISAS),
        ("encode", ADDRESS, ISAS),
        ("encode", THREAD, ISAS),
    ],
)
def test_no_sanitizer_reports(name: str, sanitizers: str, isas: list[str] | None) -> None:
    program = sanitized_program(name, sanitizers)
    if name == "encode":
        assert all(run(command_of(program, isa)) == "ok\n" for isa in isas or [])
    else:
        assert run(command_of(program, *(isas or []))) == "0 failures\n"


@pytest.mark.long(caught="tests/kernels/test_scan.py, for the kernels of this CPU")
def test_searches_equal_brute_force_with_amx_on_emulated_tiles() -> None:
    try:
        read_bytes(np.zeros(1, dtype=np.uint8), "vnni")
    except ValueError as error:
        pytest.skip(f"{error}: the kernel for AMX needs it, though its tiles are emulated")
    emulated = {
        "amx": ["-include", str(FOLDER / "emulated_tiles.hpp")], "fuzz": ["-DMTAW_SEEDED", "-DMTAW_EMULATED_TILES"],
    }  # fmt: skip
    program = build_or_skip(CLANG, SEARCHES, sanitized(ADDRESS), SERVING, level_flags=emulated)
    assert run([str(program), "1500"]) == "ok\n"


@pytest.mark.long(caught="tests/kernels/test_scan.py and test_native_encoder.py, for the portable kernels")
@pytest.mark.parametrize(
    ("program", "parts", "arguments"),
    [
        (SEARCHES, SERVING, ["300"]),
        (FOLDER / "encode_check.cpp", ("encode",), ["portable"]),
        (FOLDER / "encode_check.cpp", ("encode",), ["neon"]),
    ],
    ids=["engine", "encode-portable", "encode-neon"],
)
def test_aarch64(program: Path, parts: tuple[str, ...], arguments: list[str]) -> None:
    if shutil.which("qemu-aarch64-static") is None:
        pytest.skip("there is no qemu-aarch64-static: apt-get install qemu-user-static")
    built = build_or_skip(
        "aarch64-linux-gnu-g++", program, ["-O2", "-static"], parts, target="aarch64",
        level_flags={"fuzz": ["-DMTAW_SEEDED"]},
    )  # fmt: skip
    assert run(["qemu-aarch64-static", str(built), *arguments]) == "ok\n"
