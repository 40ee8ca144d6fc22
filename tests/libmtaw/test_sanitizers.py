"""The C interface under the sanitizers: calls in any order from many threads, and damaged bundles."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.libmtaw.fuzz import PARTS, PROGRAM, run_cases, whole_bundles
from tests.libmtaw.test_answers import saved
from tests.native.builds import CLANG, SANITIZERS, SMOKE, build_or_skip, command_of, instruction_sets, sanitized

_LONG = pytest.mark.long(caught="here, by the smoke: addresses, and races that change an answer")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "sets", "threads", "calls"),
    [
        pytest.param(SMOKE, instruction_sets()[-1:], "8", "60", id="smoke"),
        *(pytest.param(sanitized(name), instruction_sets(), "16", "200", id=name, marks=_LONG) for name in SANITIZERS),
    ],
)
def test_calls_in_any_order(flags: tuple[str, ...], sets: list[str], threads: str, calls: str, tmp_path: Path) -> None:
    program = build_or_skip(CLANG, Path(__file__).with_name("any_order.cpp"), flags, PARTS)
    bundle = saved(tmp_path / "bundle", "withheld")
    for isa in sets:
        # The first report ends the run: without this ThreadSanitizer continues and hides it under thousands.
        environment = os.environ | {"MTAW_ISA": isa, "TSAN_OPTIONS": "halt_on_error=1"}
        command = command_of(program, bundle, tmp_path / isa, threads, calls)
        completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, env=environment)
        assert (completed.returncode, completed.stdout) == (0, "ok\n"), completed.stdout + completed.stderr[-6000:]


@pytest.mark.slow
def test_damaged_bundles_are_refused_or_answer(tmp_path: Path) -> None:
    program = build_or_skip(CLANG, PROGRAM, SMOKE, PARTS)
    opened, refused = run_cases(program, tmp_path, 0, 150, whole_bundles(tmp_path))
    assert opened > 15
    assert refused > 50
