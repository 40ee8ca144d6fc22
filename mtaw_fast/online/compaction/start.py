"""The compactor as whoever starts it sees it: a process, and what its exit codes say."""

from __future__ import annotations

import os
import subprocess
import sys

from mtaw_fast.online.settings import LearningSettings

BUSY, UNTIDY = 75, 76  # beside 0 and the codes of errors; 75 is sysexits.h's "try again"


def started(folder: str | os.PathLike[str], settings: LearningSettings, *, wait: bool) -> subprocess.Popen[bytes]:
    """A compactor of `folder`'s bundle; see `online.compaction.compactor`.

    wait: whether it begins after another one that is at it, instead of leaving it to that one.
    """
    command = [sys.executable, "-m", "mtaw_fast.online.compaction.compactor", str(folder), *settings.arguments()]
    return subprocess.Popen([*command, "--wait"] if wait else command, stdin=subprocess.DEVNULL)
