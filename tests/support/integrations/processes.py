"""Commands on a local Ray, and the processes that it starts for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def command(*arguments: object) -> list[str]:
    """`mtaw-fast` in a process of its own."""
    return [sys.executable, "-m", "mtaw_fast", *map(str, arguments)]


def started(*arguments: object) -> subprocess.Popen:
    """The command, running."""
    return subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(running: subprocess.Popen, seconds: float = 400) -> tuple[int, str, str]:
    """Exit status and what was printed."""
    out, error = running.communicate(timeout=seconds)
    return running.returncode, out, error


def wait_for(condition: Callable[[], object], running: subprocess.Popen, seconds: float = 400) -> None:
    """Until the condition holds, while the command runs."""
    until = time.monotonic() + seconds
    while not condition():
        assert running.poll() is None, "the command ended too early: give it more to do"
        assert time.monotonic() < until
        time.sleep(0.005)


def workers(running: subprocess.Popen, named: str) -> list[psutil.Process]:
    """The Ray workers below a command whose title holds `named`, busy ones first; Ray's own agents left out."""
    processes = []
    for process in psutil.Process(running.pid).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
            if named in title and "Agent" not in title:
                processes.append(process)
        except psutil.Error:
            continue
    return sorted(processes, key=lambda process: -process.cpu_times().user)


def kill(process: psutil.Process | subprocess.Popen) -> None:
    """Send SIGKILL, as a lost host would."""
    os.kill(process.pid, signal.SIGKILL)


def gone(processes: list[psutil.Process], seconds: float = 60) -> bool:
    """Whether all of them end within that time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def parts(folder: Path) -> int:
    """Parts that are there."""
    return len(list(folder.glob("part-*")))
