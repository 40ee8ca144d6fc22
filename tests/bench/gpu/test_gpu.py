"""The GPU bench without a GPU: every case runs dry, no figure is printed, and refusals are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.kernels import triton_device

torch = pytest.importorskip("torch", reason="the GPU bench needs the extra 'train'")

from bench.gpu import __main__ as command  # noqa: E402  # torch comes first

FIGURES = {"p50_us", "p95_us", "calls", "tflops", "gb_s", "gexp_s", "step_us", "epoch_s", "sessions_s", "loss"}
ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")


# All but `peers`: test_every_way_of_pytorch_runs is about those.
CASES = [name for name in command.CASES if name != "peers"]


def test_every_case_runs_dry_and_prints_no_figure(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "MTAW_DATA")}
    line = [sys.executable, "-m", "bench.gpu", "--dry", "--only", ",".join(CASES), "--json", str(tmp_path / "gpu.json")]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert list(dict.fromkeys(result["case"] for result in results)) == CASES
    assert all(result["dry"] for result in results)
    assert not any(FIGURES & set(result) for result in results)
    assert all("error" in result or "skipped" in result for result in results if result["case"] != "limits")


def test_misuse_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import triton  # noqa: F401

    assert command.main(["--only", "loss,lose"]) == 2
    assert "--only loss,lose: there is no case 'lose'; choose from kernels, limits, loss" in capsys.readouterr().err
    if not triton_device.interpreting():
        assert command.main(["--dry"]) == 2
        assert "--dry needs a process that has not imported Triton yet" in capsys.readouterr().err
    if not torch.cuda.is_available():
        assert command.main([]) != 0
        assert capsys.readouterr().err == (
            "error: bench.gpu: PyTorch sees no GPU here; run it on a host with one, or with --dry "
            "(toy sizes, no figures)\n"
        )


def test_every_way_of_pytorch_runs() -> None:
    """Packages of others may be missing; what PyTorch has may not be skipped by a call that is wrong."""
    from bench.gpu import loss_cases
    from bench.gpu.setting import Setting, errors_of

    for name, way in loss_cases.WAYS.items():
        if name.startswith("torch"):
            assert max(errors_of(Setting.of(dry=True), way, loss_cases.SCALE, loss_cases.GAMMA)) < 3e-2
