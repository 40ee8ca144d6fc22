"""The memory of a process counts that of its children."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.harness.process_tree import tree_resident

_HOLDS = "import sys; held = bytearray(b'x') * (80 << 20); print('there', flush=True); sys.stdin.read()"


def test_children_count_until_they_end() -> None:
    command = [sys.executable, "-c", _HOLDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        alone = tree_resident(child.pid)
        assert 80 << 20 < alone < 300 << 20
        assert tree_resident(os.getpid()) > alone + (10 << 20)
        child.communicate()
    assert tree_resident(child.pid) == 0
