"""The GPU bench without a GPU: every case runs dry, no figure is printed, and refusals are one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtaw_fast.kernels import triton_device

torch = pytest.importorskip("torch", reason="the GPU bench needs the extra 'train'")

from bench.gpu import command  # noqa: E402  # torch comes first

FIGURES = {"p50_us", "p95_us", "calls", "tflops", "gb_s", "gexp_s", "step_us", "epoch_s", "sessions_s", "loss"}
UNGATED = {"limits", "rooflines", "breakdown"}  # they time what other cases have checked

pytestmark = pytest.mark.skipif(not triton_device.installed(), reason="the package 'triton' is not installed")


# The next test runs the other cases, with figures. `tiles`, every variant of the kernels, is the longest.
QUICK = "kernels,limits,rooflines,encoder,adam"
CAUGHT = (
    "here, the next test for the other cases, test_every_peer_of_pytorch_runs, tests/kernels/on_triton for the tiles"
)


@pytest.mark.parametrize("only", [QUICK, pytest.param(",".join(command.CASES), marks=pytest.mark.long(caught=CAUGHT))])
def test_every_case_runs_dry_and_prints_no_figure(only: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    file = tmp_path / "gpu.json"
    run = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--dry", "--only", only, "--json", str(file)],
        cwd=pytestconfig.rootpath,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    results = json.loads(file.read_text())["results"]
    assert list(dict.fromkeys(result["case"] for result in results)) == only.split(",")
    assert all(result["dry"] for result in results)
    assert not any(FIGURES & set(result) for result in results)
    if only != QUICK:
        tiles = {result["tile"] for result in results if result["case"] == "tiles"}
        assert tiles >= {"64x64x4", "128x128x8", "32x64x4"}
    assert all("error" in result or "skipped" in result for result in results if result["case"] not in UNGATED)
    # A kernel of the step that is renamed needs its line in `rooflines.works` renamed.
    roofs = {result["kernel"] for result in results if result["case"] == "rooflines" and result["has a roof"]}
    assert roofs >= {"partial_sums", "item_gradients", "unit_rows", "adam_kernel", "interest_tracking"}


def test_what_only_a_gpu_runs_has_no_typo(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """The branches with figures, with a stopped clock and stubs for the calls to the device."""
    environment = {name: value for name, value in os.environ.items() if name != "MTAW_DATA"} | {"TRITON_INTERPRET": "1"}
    file = tmp_path / "gpu.json"
    run = subprocess.run(
        [sys.executable, "-m", "tests.support.bench.stopped_clock", str(file)],
        cwd=pytestconfig.rootpath,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    records = json.loads(file.read_text())
    by_case = {name: [record for record in records if record["case"] == name] for name in command.CASES}
    (limits,) = by_case["limits"]
    assert {"tflops", "gb_s", "gexp_s"} < set(limits)
    roofs = {record["kernel"]: record for record in by_case["rooflines"]}
    assert roofs["partial_sums"]["bound by"] in ("memory", "products", "exponentials")
    assert roofs["partial_sums"]["share"] > 0
    assert "share" not in roofs["a kernel of others"]
    assert [record["epoch"] for record in by_case["epoch"]] == [1, 2, 3]
    assert {record["batch"] for record in by_case["serving"]} == {1, 32, 1024}
    assert all(record["sessions_s"] > 0 for record in by_case["serving"])
    assert {record["index"] for record in by_case["faiss"]} == {"faiss-flat", "FAISS alone", "native (CPU)"}
    assert {record["step"] for record in by_case["step"]} == {"operation by operation", "as a CUDA graph"}
    assert all(record["p50_us"] > 0 for record in by_case["breakdown"])


def test_budgets_are_under_ten_minutes() -> None:
    from bench.gpu.cases import BY_NAME

    assert sum(command.BUDGETS.values()) <= 600
    assert tuple(BY_NAME) == command.CASES


def test_a_case_ends_where_its_budget_is_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 3.0, 7.0, 11.0, 12.0])
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: next(now)))
    records = ({"number": number} for number in range(5))
    assert list(command.within(10, records)) == [
        {"number": 0}, {"number": 1}, {"number": 2}, {"skipped": "the rest: its 10 s are spent; see --patient"},
    ]  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) != 0
    assert capsys.readouterr().err == (
        "error: bench.gpu: PyTorch sees no GPU here; run it on a host with one, or with --dry (toy sizes, no figures)\n"
    )


def test_a_case_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--only", "loss,lose"]) == 2
    assert "--only loss,lose: there is no case 'lose'; choose from kernels, limits, loss" in capsys.readouterr().err


@pytest.mark.skipif(triton_device.interpreting(), reason="Triton interprets already")
def test_a_process_that_compiles_cannot_run_dry(capsys: pytest.CaptureFixture[str]) -> None:
    import triton  # noqa: F401

    assert command.main(["--dry"]) == 2
    assert "--dry needs a process that has not imported Triton yet" in capsys.readouterr().err


def test_a_case_that_breaks_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.gpu.cases import BY_NAME

    def breaks(_: Any) -> Any:
        yield {"part": "first"}
        raise RuntimeError("CUDA error: an illegal memory access\nwas met")

    monkeypatch.setitem(BY_NAME, "limits", breaks)
    monkeypatch.setitem(BY_NAME, "adam", lambda _: iter([{"weights": 3, "error": "0"}]))
    assert command._run(["limits", "adam"], True, False, tmp_path / "gpu.json") == 1
    results = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert [result["case"] for result in results] == ["limits", "adam"]
    output = capsys.readouterr()
    assert "limits: it ended with RuntimeError (CUDA error: an illegal memory access)" in output.out + output.err


def test_a_tile_that_a_gpu_cannot_have_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.gpu import loss_cases
    from bench.gpu.setting import Setting

    chosen = loss_cases.configs.CHOSEN

    def errors(*_: Any) -> list[float]:
        if chosen != loss_cases.configs.CHOSEN:
            raise RuntimeError("out of resource: shared memory")
        return [0.0]

    monkeypatch.setattr(loss_cases, "errors_of", errors)
    monkeypatch.setattr(Setting, "time", lambda *_: {})
    records = list(loss_cases.tiles(Setting.of(dry=True)))
    kept = [record for record in records if "skipped" not in record]
    assert [record["tile"] for record in kept] == list(chosen)
    assert len(records) == len(loss_cases.configs.QUERIES_TILES) + len(loss_cases.configs.ITEMS_TILES)
    assert chosen == loss_cases.configs.CHOSEN
    monkeypatch.setattr(loss_cases, "errors_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loss_cases.tiles(Setting.of(dry=True)))


def test_a_peer_that_is_wrong_is_skipped_and_ours_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.gpu import loss_cases as peers
    from bench.gpu.setting import Setting, WrongResultError

    def wrong(*_: Any) -> Any:
        raise WrongResultError("the loss is off")

    class CompilerError(Exception):
        """As peers' compilers have them, of no common base."""

    def cannot(*_: Any) -> Any:
        raise CompilerError("cannot run\nhere")

    chosen = [peers.Peer("wrong", wrong), peers.Peer("broken", cannot, gamma=0.0, items=128)]
    monkeypatch.setattr(peers, "all_peers", lambda _: chosen)
    setting = Setting.of(dry=True)
    assert list(peers.peers(setting)) == [
        {"peer": "wrong", "gamma": 2.0, "skipped": "the loss is off"},
        {"peer": "broken", "gamma": 0.0, "skipped": "cannot run"},
    ]
    chosen[:] = [peers.Peer("ours", cannot, own=True)]
    with pytest.raises(CompilerError):
        list(peers.peers(setting))
    chosen[:] = [peers.Peer("ours", wrong, own=True)]
    with pytest.raises(WrongResultError, match="the loss is off"):
        list(peers.peers(setting))


def test_every_peer_of_pytorch_runs_and_ours_come_first() -> None:
    """Packages of others may be missing; what PyTorch has may not be skipped by a call that is wrong."""
    from bench.gpu import loss_cases as peers
    from bench.gpu.setting import Setting, errors_of

    setting = Setting.of(dry=True)
    listed = peers.all_peers(setting)
    assert [peer.name for peer in listed if peer.own] == [peer.name for peer in listed[:3]]
    for peer in listed:
        if peer.name.startswith("torch"):
            assert max(errors_of(setting, peer.loss, peers.SCALE, peer.gamma, peer.items)) < 3e-2
    packages = {peer.name.split(",")[0].split()[0] for peer in listed}
    assert packages == {"ours", "torch", "torch.compile", "cut-cross-entropy", "liger", "quack"}
