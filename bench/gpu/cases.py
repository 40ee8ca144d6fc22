"""The cases of the GPU bench by name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.gpu import loss_cases, rooflines, serving_cases, step_cases
from bench.gpu.budgets import BUDGETS
from bench.gpu.setting import Setting, WrongResultError

_ROOT = Path(__file__).resolve().parents[2]
_TESTS = ("tests/kernels/on_triton", "tests/kernels/test_scatter.py", "tests/training/steps/test_cuda_graph_step.py")


def kernels(setting: Setting) -> Iterator[dict[str, Any]]:
    """Run the tests of the kernels and of the captured step on the device."""
    if setting.dry:
        missing = [path for path in _TESTS if not (_ROOT / path).exists()]
        if missing:
            raise WrongResultError(f"the tests {', '.join(missing)} do not exist")
        yield {"tests": " ".join(_TESTS), "skipped": "the test suite runs them in the interpreter"}
        return
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *_TESTS]
    limit = BUDGETS["kernels"] if setting.hurried else None
    try:
        run = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        yield {"tests": " ".join(_TESTS), "skipped": f"not finished within {limit} s; see --patient"}
        return
    last = (run.stdout.strip().splitlines() or ["no output"])[-1]
    if run.returncode != 0:
        raise WrongResultError(f"tests failed ({last})")
    yield {"tests": " ".join(_TESTS), "result": last}


BY_NAME: dict[str, Callable[[Setting], Iterator[dict[str, Any]]]] = {
    "kernels": kernels,
    "limits": rooflines.limits,
    "loss": loss_cases.loss,
    "rooflines": rooflines.rooflines,
    "encoder": step_cases.encoder,
    "adam": step_cases.adam,
    "step": step_cases.step,
    "breakdown": step_cases.breakdown,
    "epoch": step_cases.epoch,
    "peers": loss_cases.peers,
    "tiles": loss_cases.tiles,
    "faiss": serving_cases.faiss_flat,
    "serving": serving_cases.serving,
}
