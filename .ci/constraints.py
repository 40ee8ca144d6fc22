"""Writes constraints.txt: the version and hash of every package that `.[dev]` and the build need, but torch and triton.

    make constraints        or: python .ci/constraints.py

pip resolves as it would install into an empty environment, and reports what it found; nothing is installed. torch and
triton come from another index on some machines, so they keep the bounds of pyproject.toml, and what torch alone needs
on a GPU is left to it. The file holds for CPython 3.11 on Linux, x86-64.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = re.compile(r"(torch|triton|mtaw-fast|nvidia-.*|cuda-.*)")
HEAD = """\
# Every package of `.[dev]` and of the build, but torch and triton, with its hash: for CPython 3.11 on Linux, x86-64.
# Made by `make constraints`; installed by `make setup`. Another platform: `make setup CONSTRAINTS=`.
"""


def main() -> None:
    """Resolve, then write the file in one go."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    # What scikit-build-core asks for while it builds, where the machine lacks it.
    wanted = [".[dev]", *build, "cmake", "ninja"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run([*command, *wanted], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    lines = []
    for entry in json.loads(done.stdout)["install"]:
        name = re.sub(r"[-_.]+", "-", entry["metadata"]["name"]).lower()
        if LEFT_OUT.fullmatch(name):
            continue
        digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
        lines.append(f"{name}=={entry['metadata']['version']} --hash=sha256:{digest}\n")
    (ROOT / "constraints.txt").write_text(HEAD + "".join(sorted(lines)))


if __name__ == "__main__":
    main()
