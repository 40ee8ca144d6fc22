"""Run benches one after the other, each in its own process, and keep their results."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.harness.machine import checkout, describe, machine_record
from bench.harness.report import SCHEMA
from bench.suite.catalog import BUNDLE, Bench, filled
from bench.suite.repeats import merged
from bench.suite.results import new_path
from mtaw_fast.errors import DataError, MtawError
from mtaw_fast.storage.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
_LOG = ("--items", "2000", "--sessions", "6000")  # what the small bundle is trained on
_SETTINGS = ("--set", "embedding_dim=32", "--set", "epochs=1", "--set", "batch_prefixes=512")


class Suite:
    """A run of some benches. The result file is rewritten after each, so no result is lost.

    path: the file. repeat: processes of each bench; all benches run once before any runs again, so the processes of one
    are apart in time. benches: name, seconds and outcome of each.
    """

    def __init__(self, quick: bool, folder: Path, repeat: int = 1) -> None:
        if find_spec("torch") is not None:
            import torch  # noqa: F401  # the machine's record names GPUs if it is loaded
        self.quick = quick
        self.machine = machine_record()
        self.checkout = checkout(ignoring="bench/results")
        began = datetime.now(UTC)
        self.date, self.at = began.strftime("%Y-%m-%d"), began.isoformat(timespec="seconds")
        self.path = new_path(folder, self.machine, self.checkout, self.date, quick)
        self.repeat = repeat
        self.found: dict[str, list[list[dict[str, Any]]]] = {}
        self.benches: list[dict[str, Any]] = []

    @property
    def results(self) -> list[Mapping[str, Any]]:
        """The rows of all benches; those of repeated ones as one row each."""
        return [row for runs in self.found.values() for row in merged(runs)]

    def run(self, benches: Sequence[Bench]) -> int:
        """Run them; return 1 if one failed or has no result, else 0. Benches that cannot run here are skipped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mtaw-fast-suite-") as name:
            folder, bundle = Path(name), None
            runnable = []
            for bench in benches:
                reason = bench.why_not()
                if reason is None:
                    runnable.append(bench)
                else:
                    self._keep(bench.name, 0.0, f"skipped: {reason}")
            turns = [bench for _ in range(self.repeat) for bench in runnable]
            for number, bench in enumerate(turns, 1):
                _say(f"[{number}/{len(turns)}] {bench.name}: {bench.line}")
                began = time.perf_counter()
                try:
                    if bundle is None and any(BUNDLE in text for text in bench.options(self.quick)):
                        bundle = small_bundle(folder)
                    outcome = self._one(bench, bundle, folder)
                except MtawError as error:
                    outcome = f"failed: {error}"
                self._keep(bench.name, time.perf_counter() - began, outcome)
        self._print_summary()
        return int(any(entry["outcome"].startswith("failed") for entry in self.benches))

    def _one(self, bench: Bench, bundle: Path | None, folder: Path) -> str:
        """Run a bench and take its results; return the outcome."""
        results_path = folder / f"{bench.name}.json"
        options = filled(bench.options(self.quick), bundle, folder)
        command = [sys.executable, "-m", f"bench.{bench.name}", *options, "--json", str(results_path)]
        results_path.unlink(missing_ok=True)
        code = _wait(command)
        results: list[dict[str, Any]] = read_json(results_path, DataError)["results"] if results_path.is_file() else []
        if results:
            self.found.setdefault(bench.name, []).append([{"bench": bench.name, **result} for result in results])
        if code:
            return f"failed: exit {code}, see its message above"
        return "done" if results else "failed: it gave no result"

    def _keep(self, name: str, seconds: float, outcome: str) -> None:
        """Record the outcome of a process; a bench's first failure stays its outcome."""
        entry = next((candidate for candidate in self.benches if candidate["name"] == name), None)
        if entry is None:
            self.benches.append({"name": name, "seconds": round(seconds, 1), "outcome": outcome})
        else:
            entry["seconds"] = round(entry["seconds"] + seconds, 1)
            if entry["outcome"] == "done":
                entry["outcome"] = outcome
        if not outcome.startswith("done"):
            _say(f"{name}: {outcome}")
        write_json(self.path, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """Return the bench JSON schema, followed by what the suite ran."""
        return {
            "schema": SCHEMA,
            "machine": self.machine,
            "commit": self.checkout.as_json(),
            "at": self.at,
            "quick": self.quick,
            "results": self.results,
            "suite": {
                "date": self.date,
                "repeat": self.repeat,
                "benches": self.benches,
            },
        }

    def _print_summary(self) -> None:
        width = max(len(entry["name"]) for entry in self.benches)
        print(f"\n{'bench':{width}} {'seconds':>8}  outcome")
        for bench in self.benches:
            print(f"{bench['name']:{width}} {bench['seconds']:8.1f}  {bench['outcome']}")
        print(f"{len(self.results)} results in {sum(entry['seconds'] for entry in self.benches):.0f} s")
        print(f"{describe(self.machine)}; {self.checkout}")
        print(f"wrote {self.path}")


def _wait(command: Sequence[str]) -> int:
    """Run a command and return its exit status. If this process is terminated, so are the command and its children."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
            try:
                return process.wait()
            except BaseException:
                _end(process)
                raise
    finally:
        signal.signal(signal.SIGTERM, former)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process and its children, so that they clean up; kill what is left after 10 s."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, number)
            process.wait(10)


def small_bundle(folder: Path) -> Path:
    """Train a bundle of the preset `full` in seconds and export its ONNX graphs, for the benches that read one."""
    _say("training a small bundle for the benches that read one")
    log, dataset, bundle = folder / "log.csv", folder / "dataset", folder / "bundle"
    steps = (
        ("mtaw_fast.data.synthetic_log", str(log), *_LOG),
        ("mtaw_fast", "prepare", "clicks", str(log), str(dataset), "--test-days", "3"),
        ("mtaw_fast", "train", str(dataset), str(bundle), "--no-refit", *_SETTINGS),
        ("mtaw_fast", "export", str(bundle), "--onnx"),
    )
    for step in steps:
        result = subprocess.run([sys.executable, "-m", *step], cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode:
            last = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise MtawError(f"the small bundle could not be made: {' '.join(step[:2])}: {last}")
    return bundle


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
