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

from bench.gpu import command  # noqa: E402  # torch comes first

pytestmark = pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")


@pytest.mark.slow
def test_every_case_runs_dry_and_prints_no_figure(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    file = tmp_path / "gpu.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--dry", "--json", str(file)],
        cwd=pytestconfig.rootpath,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads(file.read_text())["results"]
    assert list(dict.fromkeys(result["case"] for result in results)) == list(command.CASES)
    assert all(result["dry"] for result in results)
    measured = {"p50_us", "p95_us", "calls", "tflops", "gb_s", "gexp_s"}
    assert not any(measured & set(result) for result in results)
    assert {result["tile"] for result in results if result["case"] == "tiles"} >= {"64x64x4", "128x128x8", "32x64x4"}
    assert all("error" in result or "skipped" in result or "limits" in result["part"] for result in results)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) != 0
    assert capsys.readouterr().err == (
        "error: bench.gpu: PyTorch sees no GPU here; run it where there is one, or with --dry (toy sizes, no figures)\n"
    )


def test_a_case_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "loss,lose"]) == 2
    assert "--only loss,lose: there is no case 'lose'; choose from kernels, loss, tiles" in capsys.readouterr().err


@pytest.mark.skipif(triton_device.interpreting(), reason="Triton interprets already")
def test_a_process_that_compiles_cannot_run_dry(capsys: pytest.CaptureFixture[str]) -> None:
    import triton  # noqa: F401

    assert command.main(["--dry"]) == 2
    assert "--dry needs a process that has not imported Triton yet" in capsys.readouterr().err


def test_a_peer_that_is_wrong_is_skipped_and_ours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.gpu import loss_cases
    from bench.gpu.setting import Setting, WrongResultError

    wrong = [loss_cases._dense]

    def check(_: Setting, loss_of: loss_cases.Loss) -> list[float]:
        if loss_of in wrong:
            raise WrongResultError("the loss is off")
        raise ValueError("cannot run")

    monkeypatch.setattr(loss_cases, "_check", check)
    monkeypatch.setattr(loss_cases, "_PEERS", {"dense": loss_cases._dense, "linear": loss_cases._linear_ce})
    assert list(loss_cases.peers(Setting.of(dry=True))) == [
        {"peer": "dense", "skipped": "the loss is off"},
        {"peer": "linear", "skipped": "cannot run"},
    ]
    monkeypatch.setattr(loss_cases, "_PEERS", {"ours": loss_cases._ours})
    with pytest.raises(ValueError, match="cannot run"):
        list(loss_cases.peers(Setting.of(dry=True)))
    wrong.append(loss_cases._ours)
    with pytest.raises(WrongResultError, match="the loss is off"):
        list(loss_cases.peers(Setting.of(dry=True)))
