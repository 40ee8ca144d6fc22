"""Refreshes of a small shop, each in a process of its own, and what they must leave.

Processes are forks of one that has imported everything and started nothing, so keep threads out of it: a `Bundle` is
opened in a fork, too.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtaw_fast import Recommender, refresh
from mtaw_fast.bundle.versions import current_in
from mtaw_fast.cli import main
from mtaw_fast.cli.common import wait_passively
from mtaw_fast.refreshing.state import RefreshState
from mtaw_fast.refreshing.steps import STEPS
from tests.support.shop import now_after, write_config, write_day
from tests.support.training.curves import undrawn

KINDS = {"update": "5d", "training": "1d"}  # how old the last training may be
# What a run notes of the clock, by file: of these keys alone a value may differ.
_TIMES = {
    "manifest.json": {
        "created", "seconds", "processor_seconds", "samples_per_second", "sessions_per_second",
        "git_commit",  # someone may commit meanwhile
    },
    "state.json": {"time", "seconds", "started", "memory"},
    "promotions.jsonl": {"time", "version"},  # the version is a hash of the manifest
    ".json": {"seconds", "started", "memory"},
}  # fmt: skip
_OPERATIONS = {"open", "os.chmod", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink"}  # audit events
_WRITES = os.O_WRONLY | os.O_RDWR
_DATED = {"refresh.prom", ".html"}


def warm() -> None:
    """Import what a run needs, and let forks draw nothing, which takes most of the time of a small training."""
    wait_passively()  # before PyTorch is imported
    for name in ("matplotlib.pyplot", "polars", "torch._dynamo", "mtaw_fast.training.run", "jinja2"):
        importlib.import_module(name)
    for name, drawing, instead in (
        ("mtaw_fast.training.run_state", "plot_curves", undrawn),
        ("mtaw_fast.bundle_page.page", "_curves", lambda _: []),
    ):
        setattr(importlib.import_module(name), drawing, instead)


def in_fork(function: Callable[[], object]) -> int:
    """Run a function in a fork; return its exit status: 0 unless it raises, negative the signal that ended it."""
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def begun_shop(folder: Path, kind: str, begun: Path | None = None) -> Path:
    """Make a shop in which days 0 to 3 are in the first bundle, and day 4 is to come, by a run of this kind.

    begun: a shop that is so far, to copy.
    """
    if begun is None:
        folder.mkdir()
        for day in range(5):
            write_day(folder, day)
        assert in_fork(lambda: refresh(write_config(folder), now=now_after(3))) == 0
    else:
        shutil.copytree(begun, folder, symlinks=True)
    config = write_config(folder, KINDS[kind], "report = 'reports'\n")
    delay = time.time() - now_after(4)  # the command takes its time from the clock
    config.write_text(config.read_text().replace("[log]", f"[log]\ndelay = {delay}"))
    return folder


def copied(shop: Path, target: Path) -> Path:
    """Copy a shop, and let the processes that start from now on have their temporary files next to the copy."""
    shutil.copytree(shop, target, symlinks=True)
    (target / "tmp").mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(target / "tmp")
    return target


def check_served(shop: Path) -> str:
    """See that the served bundle is whole and answers, and the state is; return the bundle's name."""

    def check() -> None:
        RefreshState(shop / "shop")
        assert Recommender.load(shop / "shop" / "current").recommend(["sku-10"], k=5).items

    if in_fork(check):
        raise SystemExit(f"{shop}: what is served, or the state, is damaged")
    served = current_in(shop / "shop")
    assert served is not None
    return served


def check_same(expected: Path, got: Path, failed: bool = False) -> None:
    """Compare every file of two shops that have come to the end, byte by byte but for times of the clock.

    failed: whether writes of the second failed: its record names them, and a page that cannot be written stays away.
    """
    names, others = _names(expected, failed), _names(got, failed)
    if names != others:
        raise SystemExit(f"{got}: left behind {sorted(others - names)}, missing {sorted(names - others)}")
    for name in sorted(names):
        first, second = _content(expected, name, failed), _content(got, name, failed)
        if first != second:
            raise SystemExit(f"{got / name} is not what a run without a break writes: {_differing(first, second)[:9]}")


def _names(shop: Path, failed: bool) -> set[str]:
    paths = (path for path in shop.rglob("*") if not failed or path.suffix != ".html")
    return {f"{path.relative_to(shop)}{f' -> {path.readlink()}' if path.is_symlink() else ''}" for path in paths}


def _content(shop: Path, name: str, failed: bool) -> Any:
    path = shop / name
    if {path.name, path.suffix} & _DATED or not path.is_file():
        return None
    times = _TIMES.get(path.name, _TIMES.get(path.suffix))
    if times is None:
        return path.read_bytes()
    lines = path.read_text().replace(str(shop), "").splitlines()
    texts = lines if path.suffix == ".jsonl" else ["".join(lines)]
    return [_without(json.loads(text), times | ({"report", "failures"} if failed else set())) for text in texts]


def _differing(first: Any, second: Any, where: str = "") -> list[str]:
    """Return where two JSON values differ."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [text for name in first for text in _differing(first[name], second[name], f"{where}.{name}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [
            text
            for number, pair in enumerate(zip(first, second, strict=True))
            for text in _differing(*pair, f"{where}.{number}")
        ]
    return [] if first == second else [f"{where}: {str(first)[:60]} and {str(second)[:60]}"]


def _without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(part, names) for name, part in value.items() if name not in names}
    return [_without(part, names) for part in value] if isinstance(value, list) else value


def _count_operations(folder: str, last: int) -> Callable[[], int]:
    """Count what changes files in a folder from now on, and kill this process before the last of so many."""
    count = 0

    def note(event: str, values: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in _OPERATIONS or (event == "open" and not values[2] & _WRITES):
            return
        if isinstance(values[0], str | Path) and str(values[0]).startswith(folder):
            count += 1
            if count == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    return lambda: count


class RefreshProcess:
    """A running `mtaw-fast refresh`: a fork, or a process of its own with the imports to do.

    steps: name of each step that it has come to, and when, in seconds since its start. The first one is `start`.
    seconds: how long it took. operations: how many files of the shop it opened to write, renamed, removed and so on;
    counted in a fork that ends. last: kill a fork before this operation.
    """

    def __init__(self, shop: Path, spawned: bool, last: int = 0) -> None:
        self._lines, write = os.pipe()
        command = ["refresh", str(shop / "shop.toml")]
        self._began, self._text, self._spawned = time.monotonic(), b"", spawned
        self.steps, self.seconds = [("start", 0.0)], 0.0
        if spawned:
            command = [sys.executable, "-m", "mtaw_fast", *command]
            self._pid = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=write).pid
        elif (pid := os.fork()) == 0:
            os.dup2(write, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            count = _count_operations(str(shop), last)
            status = main(command)
            print(f"operations: {count()}", file=sys.stderr, flush=True)
            os._exit(status)
        else:
            self._pid = pid
        os.close(write)

    def end(self) -> None:
        """Wait for its end. Raises SystemExit if it fails."""
        assert self.kill("never", 0.0) is None

    def kill(self, step: str, seconds: float) -> str | None:
        """Kill it so many seconds after it comes to a step; return the step that it was at, None if it ended before.

        Raises SystemExit if it fails before.
        """
        while True:
            due = next((self._began + at + seconds for name, at in self.steps if name == step), None)
            left = None if due is None else due - time.monotonic()
            if left is not None and left <= 0:
                os.kill(self._pid, signal.SIGKILL)
                break
            if select.select([self._lines], [], [], left)[0] and not self._read():
                break
        status, self.seconds = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1]), time.monotonic() - self._began
        while select.select([self._lines], [], [], 0)[0] and self._read():
            pass
        os.close(self._lines)
        if status not in (0, -signal.SIGKILL):
            raise SystemExit(f"a refresh failed with {status}:\n{self._text.decode()}")
        self.operations = (
            int(self._text.rpartition(b"operations: ")[2] or 0) if status == 0 and not self._spawned else 0
        )
        return None if status == 0 else self.steps[-1][0]

    def _read(self) -> bool:
        """Note the lines that have come; return whether more may."""
        text = os.read(self._lines, 1 << 16)
        n_known = self._text.count(b"\n")
        self._text += text
        for line in self._text.decode().split("\n")[n_known:-1]:
            name = "read" if line.startswith("reading ") else line.rpartition(": ")[2]
            if name in ("read", *STEPS) and name != self.steps[-1][0]:
                self.steps.append((name, time.monotonic() - self._began))
        return bool(text)
