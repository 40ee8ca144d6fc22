"""Damaged bundles in libmtaw under AddressSanitizer: each is refused in one line, or opens and answers.

python -m tests.libmtaw.fuzz --cases 20000             until done, or a case fails
python -m tests.libmtaw.fuzz --first 4711 --cases 1    one case again
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.fuzz.mutations import Files, mutated, spoil
from tests.libmtaw.test_answers import KINDS, saved
from tests.native.builds import CLANG, SANITIZERS, SERVING, CannotBuildError, build, command_of, sanitized

PROGRAM = Path(__file__).with_name("damaged.cpp")
PARTS = (*SERVING, "bundle", "records", "rules", "text", "libmtaw")
_TOGETHER = 100


def whole_bundles(work: Path) -> list[Files]:
    """Return the files of a bundle of each kind."""
    folders = [saved(work / kind, kind) for kind in KINDS]
    return [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]


def run_cases(program: Path, work: Path, first: int, cases: int, kinds: list[Files]) -> tuple[int, int]:
    """Open the bundles of some cases; return how many opened and were refused. Raises AssertionError."""
    opened = refused = 0
    for begin in range(first, first + cases, _TOGETHER):
        numbers = range(begin, min(begin + _TOGETHER, first + cases))
        for number in numbers:
            rng, folder = Random(number), work / f"case-{number}"
            folder.mkdir()
            for name, data in mutated(rng, rng.choice(kinds), kinds).items():
                (folder / name).write_bytes(data)
            if rng.random() < 0.05 and any(folder.iterdir()):
                spoil(rng, folder)
        completed = subprocess.run(
            command_of(program), input="".join(f"{work / f'case-{number}'}\n" for number in numbers), text=True,
            capture_output=True, check=False, timeout=600,
            env=os.environ | {"ASAN_OPTIONS": "hard_rss_limit_mb=2048:allocator_may_return_null=1"},
        )  # fmt: skip
        lines = completed.stdout.split("\n")[:-1]
        assert completed.returncode == 0, f"case {begin + len(lines)}:\n{completed.stderr[-6000:]}"
        assert len(lines) == len(numbers)
        for number, line in zip(numbers, lines, strict=True):
            count, _, message = line.partition(" ")
            assert count == "3" or message.startswith(("bundle: ", "no memory: ")), f"case {number}: {line}"
            assert line.isprintable(), f"case {number}: {line!r}"
            opened, refused = opened + (count != "0"), refused + (count != "3")
            shutil.rmtree(work / f"case-{number}")
    return opened, refused


def main() -> int:
    """Run the command line; return the exit status: 0 if every case passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=10_000)
    options = parser.parse_args()
    try:
        program = build(CLANG, PROGRAM, sanitized(SANITIZERS[1]), parts=PARTS)
    except CannotBuildError as reason:
        print(reason)
        return 2
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        opened, refused = run_cases(program, work, options.first, options.cases, whole_bundles(work))
    print(f"{options.cases} cases: {opened} opened, {refused} refused at least once")
    return 0


if __name__ == "__main__":
    sys.exit(main())
