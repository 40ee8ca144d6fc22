"""libFuzzer over the native engine and the session memory: builds a target with clang and runs it for a while.

python -m tests.fuzz.engine --seconds 600                    what fails is kept in a file and named
python -m tests.fuzz.engine --target memory --seconds 600    past sessions, their tables and what is asked of them
python -m tests.fuzz.engine --input crash-0a1b2c             one such file again
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

from tests.native.builds import CLANG, ROOT, SANITIZERS, SERVING, CannotBuildError, build, sanitized

# By name: the program, and the parts of the native sources that it uses.
TARGETS: dict[str, tuple[Path, tuple[str, ...]]] = {
    "engine": (ROOT / "tests" / "fuzz" / "engine_fuzz.cpp", SERVING),
    "memory": (ROOT / "tests" / "fuzz" / "memory_fuzz.cpp", ("memory", "trends")),
}
FLAGS, LINKED = sanitized(SANITIZERS[1]), ("-fsanitize=fuzzer",)
_INPUT_SECONDS, _MEGABYTES, _LONGEST = 20, 2048, 2048
_SEEDS = 200


def fuzz(target: Path, folder: Path, seconds: int, seed: int, failures: Path) -> subprocess.CompletedProcess[str]:
    """Run from random inputs and whatever `folder` / corpus holds; a failing input goes to `failures`."""
    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for number in range(_SEEDS):
        rng = Random(number)
        (corpus / f"seed-{number}").write_bytes(rng.randbytes(rng.randint(20, _LONGEST)))
    options = [
        f"-max_total_time={seconds}", f"-timeout={_INPUT_SECONDS}", "-rss_limit_mb=0", f"-malloc_limit_mb={_MEGABYTES}",
        f"-max_len={_LONGEST}", f"-seed={seed}", f"-artifact_prefix={failures}{os.sep}", "-print_final_stats=1",
    ]  # fmt: skip
    # libFuzzer's own limit is on getrusage's peak, in which Linux counts the peak of the process that forked it.
    limits = os.environ | {"ASAN_OPTIONS": f"hard_rss_limit_mb={_MEGABYTES}"}
    return subprocess.run([str(target), *options, str(corpus)], capture_output=True, text=True, check=False, env=limits)


def main() -> int:
    """Command line; returns the exit status: 0 where no input failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", choices=TARGETS, default="engine")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--compiler", default=CLANG)
    parser.add_argument("--input", type=Path, help="run this file alone")
    options = parser.parse_args()
    program, parts = TARGETS[options.target]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            target = build(options.compiler, program, FLAGS, parts=parts, link_flags=LINKED)
        except CannotBuildError as reason:
            print(reason)
            return 2
        if options.input is not None:
            return subprocess.run([str(target), str(options.input)], check=False).returncode
        process = fuzz(target, folder, options.seconds, options.seed, Path.cwd())
    print(
        process.stderr[-6000:]
        if process.returncode != 0
        else process.stderr[process.stderr.rindex("Done ") :].splitlines()[0]
    )
    return int(process.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
