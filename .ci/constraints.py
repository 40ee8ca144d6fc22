"""Write constraints.txt: the version and hash of every package that `.[dev]` and the build need, but torch and triton.

    make constraints        or: python .ci/constraints.py

pip resolves as it would install into an empty environment, and reports what it found; nothing is installed. torch and
triton come from another index on some machines, so they keep the bounds of pyproject.toml, and what torch alone needs
on a GPU is left to it. A line ends in what else needs the package: `demo` (`make demo`), the extras `serve` and `cpu`,
and `build`. The file holds for CPython 3.11 on Linux, x86-64.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = re.compile(r"(torch|triton|mtaw-fast|nvidia-.*|cuda-.*)")
MARKS = {"serve": "mtaw-fast[serve]", "cpu": "mtaw-fast[cpu]", "demo": "mtaw-fast[train,cpu]"}
HEAD = """\
# Every package of `.[dev]` and of the build, but torch and triton, with its hash: for CPython 3.11 on Linux, x86-64.
# Written by `make constraints`; installed by `make setup`. The marks are for `make demo` and deploy/Dockerfile.
# Another platform: `make setup CONSTRAINTS=`.
"""


def main() -> None:
    """Resolve, then write the file in one go."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    # cmake and ninja: what scikit-build-core asks for while it builds, on machines that lack them.
    build = [*build, "cmake", "ninja"]
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = subprocess.run([*command, ".[dev]", *build], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    entries = {normal(entry["metadata"]["name"]): entry for entry in json.loads(report.stdout)["install"]}
    requires = {name: entry["metadata"].get("requires_dist", []) for name, entry in entries.items()}
    marked = {mark: needed([root], requires) for mark, root in MARKS.items()}
    marked["build"] = needed(build, requires)
    marked["demo"] |= marked["build"]
    lines = []
    for name, entry in entries.items():
        if not LEFT_OUT.fullmatch(name):
            digest = entry["download_info"]["archive_info"]["hashes"]["sha256"]
            marks = [mark for mark, names in marked.items() if name in names]
            comment = f"  # {' '.join(marks)}" if marks else ""
            lines.append(f"{name}=={entry['metadata']['version']} --hash=sha256:{digest}{comment}\n")
    (ROOT / "constraints.txt").write_text(HEAD + "".join(sorted(lines)))


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(roots: Iterable[str], requires: dict[str, list[str]]) -> set[str]:
    """The packages that some requirements bring in, by the requirements of each package."""
    todo = [Requirement(root) for root in roots]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = normal(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                dependencies = [Requirement(text) for text in requires.get(name, [])]
                todo += [
                    dependency
                    for dependency in dependencies
                    if dependency.marker is None or dependency.marker.evaluate({"extra": extra})
                ]
    return {name for name, _ in seen}


if __name__ == "__main__":
    main()
