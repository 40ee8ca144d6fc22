"""The GPU bench without a GPU: every case runs dry, no figure is printed, and refusals are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.kernels import triton_device

torch = pytest.importorskip("torch", reason="the GPU bench needs the extra 'train'")

from bench.gpu import __main__ as command  # noqa: E402  # torch comes first

FIGURES = {"p50_us", "p95_us", "calls", "tflops", "gb_s", "gexp_s", "step_us", "epoch_s", "sessions_s", "loss"}
ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")


def run(*arguments: str, interpret: bool) -> list[dict[str, Any]]:
    """Run a module with a last argument FILE in a process of its own; return what it writes there."""
    environment = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "MTAW_DATA")}
    environment |= {"TRITON_INTERPRET": "1"} if interpret else {}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads(Path(arguments[-1]).read_text())
    return written["results"] if isinstance(written, dict) else written


# The next test runs the other cases, with figures.
QUICK = "kernels,limits,encoder,adam"
CAUGHT = "here, the next test for the other cases, test_every_way_of_pytorch_runs"


@pytest.mark.parametrize("only", [QUICK, pytest.param(",".join(command.CASES), marks=pytest.mark.long(caught=CAUGHT))])
def test_every_case_runs_dry_and_prints_no_figure(only: str, tmp_path: Path) -> None:
    results = run("bench.gpu", "--dry", "--only", only, "--json", str(tmp_path / "gpu.json"), interpret=False)
    assert list(dict.fromkeys(result["case"] for result in results)) == only.split(",")
    assert all(result["dry"] for result in results)
    assert not any(FIGURES & set(result) for result in results)
    assert all("error" in result or "skipped" in result for result in results if result["case"] != "limits")


def test_what_only_a_gpu_runs_has_no_typo(tmp_path: Path) -> None:
    """The branches with figures, with a stopped clock and stubs for the calls to the device."""
    records = run("tests.support.bench.stopped_clock", str(tmp_path / "gpu.json"), interpret=True)
    by_case = {name: [record for record in records if record["case"] == name] for name in command.CASES}
    (limits,) = by_case["limits"]
    assert {"tflops", "gb_s", "gexp_s"} < set(limits)
    assert [record["epoch"] for record in by_case["epoch"]] == [1, 2, 3]
    assert {record["batch"] for record in by_case["serving"]} == {1, 32, 1024}
    assert all(record["sessions_s"] > 0 for record in by_case["serving"])
    assert {record["step"] for record in by_case["step"]} == {"operation by operation", "as a CUDA graph"}


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


def test_a_case_that_breaks_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.gpu import limits, step_cases

    def breaks(_: Any) -> Any:
        yield {"part": "first"}
        raise RuntimeError("CUDA error: an illegal memory access\nwas met")

    monkeypatch.setattr(limits, "limits", breaks)
    monkeypatch.setattr(step_cases, "adam", lambda _: iter([{"weights": 3, "error": "0"}]))
    assert command._run(["limits", "adam"], True, tmp_path / "gpu.json") == 1
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert [result["case"] for result in results] == ["limits", "adam"]
    output = capsys.readouterr()
    assert "limits: it ended with RuntimeError (CUDA error: an illegal memory access)" in output.out + output.err


def test_every_way_of_pytorch_runs() -> None:
    """Packages of others may be missing; what PyTorch has may not be skipped by a call that is wrong."""
    from bench.gpu import loss_cases
    from bench.gpu.setting import Setting, errors_of

    for name, way in loss_cases.WAYS.items():
        if name.startswith("torch"):
            assert max(errors_of(Setting.of(dry=True), way, loss_cases.SCALE, loss_cases.GAMMA)) < 3e-2
