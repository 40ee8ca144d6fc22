"""Groups as a user starts them: by torchrun, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.workflow import run_folder_of

OPTIONS: dict[str, Any] = {
    "embedding_dim": 16, "epochs": 2, "batch_prefixes": 24, "lr": 0.03, "validation_fraction": 0.1, "patience": 0,
    "ranker_fraction": 0.3,
    "compute_dtype": "float32",
}  # fmt: skip
_PAUSE = 0.002  # seconds between two reads of a run's state


class Started:
    """A training by a group of processes. `end` waits for it and returns what it printed, on both streams."""

    def __init__(self, world: int, dataset: Path, bundle: Path, preset: str, restarts: int = 0) -> None:
        self.bundle, self._log = bundle, bundle.with_suffix(".log").open("w+")
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}",
            f"--max-restarts={restarts}", "-m", "mtaw_fast", *arguments(dataset, bundle, preset),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # without it torchrun prints a warning
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=environment)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def state(self) -> dict | None:
        """The run's state, None before there is one."""
        path = run_folder_of(self.bundle) / "state.json"
        return json.loads(path.read_text()) if path.exists() else None

    def wait_until_printed(self, text: str) -> None:
        while self.running:
            if text in Path(self._log.name).read_text():
                return
            time.sleep(_PAUSE)
        raise AssertionError(f"it ended before {text!r}: {self.end()}")

    def kill(self, rank: int) -> None:
        """Kill one of its processes with SIGKILL."""
        children = [folder for folder in Path("/proc").iterdir() if _parent(folder) == self._process.pid]
        for folder in children:
            if f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                return
        raise AssertionError(f"there is no rank {rank}")

    def end(self) -> str:
        try:
            status = self._process.wait(300)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._log.seek(0)
        printed = self._log.read()
        self._log.close()
        assert status == 0, printed
        return printed


def arguments(dataset: Path, bundle: Path, preset: str) -> list[str]:
    """Return the arguments of mtaw-fast."""
    settings = [part for name, value in OPTIONS.items() for part in ("--set", f"{name}={value}")]
    return ["train", str(dataset), str(bundle), "--preset", preset, "--threads", "1", "--no-refit", *settings]


def weights_of(bundle: Path) -> Mapping[str, np.ndarray]:
    return Bundle.load(bundle).model.weights


def losses_of(bundle: Path) -> list[float]:
    return [record["loss"] for record in Bundle.load(bundle).metrics["history"]]


def _parent(folder: Path) -> int | None:
    try:  # not every file of /proc is a process
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
