"""Run pip, and show in one line how far it is: packages collected, files compiled. All it said follows if it fails.

    python3 .ci/progress.py .venv/bin/pip install --editable .

On a terminal the line moves; elsewhere one is printed every ten seconds.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

_STEP = re.compile(r"(Collecting|Downloading|Installing) (\S+)|\[(\d+)/(\d+)\]")
MOVING, PRINTED = 0.5, 10.0  # seconds between two looks, on a terminal and elsewhere


def run(command: Sequence[str], check: bool = True) -> int:
    """Run a pip command verbosely and return its status; check: end with the status instead where it failed."""
    print(f"$ {shlex.join(command)}", flush=True)
    start = time.monotonic()
    output: list[str] = []
    current = ["starting"]
    finished = threading.Event()
    terminal = sys.stdout.isatty()

    def show() -> None:
        while not finished.wait(MOVING if terminal else PRINTED):
            text = f"  {current[0]}, {time.monotonic() - start:.0f} s"
            print(f"\r{text:<78.78}" if terminal else text, end="" if terminal else "\n", flush=True)

    with subprocess.Popen(
        [*command, "--verbose"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        shower = threading.Thread(target=show, daemon=True)
        shower.start()
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            match = _STEP.search(line)
            if match:
                current[0] = step(match)
    finished.set()
    shower.join()
    print(("\r" if terminal else "") + f"{f'  took {time.monotonic() - start:.0f} s':<78}", flush=True)
    if process.returncode:
        print("".join(output[-60:]), flush=True)
        if check:
            sys.exit(process.returncode)
    return process.returncode


def step(found: re.Match[str]) -> str:
    """Where pip is."""
    if found[3]:
        return f"compiling: {found[3]} of {found[4]}"
    return "installing" if found[1] == "Installing" else f"package {found[2]}"


if __name__ == "__main__":
    run(sys.argv[1:])
