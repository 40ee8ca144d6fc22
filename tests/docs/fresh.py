"""The tutorial, word for word, from its first line to its last, in a fresh copy and a fresh environment.

    python -m tests.docs.fresh
    python -m tests.docs.fresh --any-torch     # where the index of PyTorch's CPU build cannot be reached

It compiles the native module: minutes. `--any-torch` leaves `--index-url ..` out of the one command that has it;
nothing else of the page is changed but the service's port.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.docs.pages import ROOT, script, tutorial


def main() -> None:
    """Copy, run, and say how long each part took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--any-torch", action="store_true")
    options = parser.parse_args()
    install, rest = tutorial()
    text = script(install)
    if options.any_torch:
        text, changed = re.subn(r" --index-url \S+", "", text)
        assert changed == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-tutorial-") as name:
        folder = Path(name) / "mtaw_fast"
        files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in files.splitlines():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / file, folder / file, follow_symlinks=False)
        mark = f'date +%s > "{name}/installed"\n'
        environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
        start = time.time()
        everything = f"{text}\n{mark}{script(rest).replace('8000', port)}"
        process = subprocess.run(["bash", "-c", everything], cwd=folder, env=environment, check=False)
        end = time.time()
        assert process.returncode == 0, "the tutorial failed"
        installed = int((Path(name) / "installed").read_text())
        print(f"install {installed - start:.0f} s, the rest {end - installed:.0f} s")


if __name__ == "__main__":
    main()
