"""Run a function in a forked child process."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable

PATIENCE = 20  # seconds


def child(work: Callable[[], object]) -> int:
    """Fork and call `work` in the child; return its wait status: 0 if it ended well, -1 if killed after `PATIENCE`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12's, on what is tested here
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1
