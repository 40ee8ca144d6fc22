"""Faults for the event log and its threads, and what is left open after them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest


def open_segments(folder: Path) -> list[str]:
    """Return the paths of the log's segments that this process has open, once per descriptor."""
    paths = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [path for path in paths if path.startswith(f"{folder}/events-")]


def cannot_start(patch: pytest.MonkeyPatch, name: str) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        real(thread)

    patch.setattr(threading.Thread, "start", start)
