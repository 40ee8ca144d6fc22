"""Many threads on one engine under a sanitizer: builds `engine_stress.cpp` and runs it over a small mapped bundle.

python -m tests.native.stress --sanitizer thread --sanitizer address,undefined --calls 100000
python -m tests.native.stress --memory --calls 10000
python -m tests.native.stress --memory --learn --threads 8 --calls 100000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mtaw_fast.kernels.native.scan import quantize
from tests.native.builds import (
    CLANG,
    ROOT,
    SANITIZERS,
    SERVING,
    CannotBuildError,
    build,
    command_of,
    instruction_sets,
    sanitized,
)  # fmt: skip
from tests.support.random_bundle import bundle_parts, memory_parts, replace_part, save_parts

PROGRAM = ROOT / "tests" / "native" / "engine_stress.cpp"
# No multiples of 16 or 8: more items than a scan takes before its first threshold. The window slides.
N_ITEMS, D, MAX_LEN = 1501, 20, 12


def run_stress(
    program: Path,
    folder: Path,
    isa: str,
    threads: int,
    calls: int,
    timeout: float,
    nested: bool = False,
    memory: bool = False,
    learn: bool = False,
) -> str:
    """Run it over a bundle made in `folder`; return its output, "ok" if no sanitizer reported and all answers agreed.

    nested: with the codes of large catalogs. memory: with a session memory and a random ranker. learn: one
    thread clicks `calls` times into a delta of it.
    """
    parts = bundle_parts(n_items=N_ITEMS, embedding_dim=D, max_session_length=MAX_LEN) | (
        memory_parts(N_ITEMS) if memory or learn else {}
    )
    bundle = save_parts(folder / "bundle", **parts)
    if nested:
        scan = bundle.file("scan")
        assert scan is not None
        replace_part(bundle.folder, "scan", quantize(bundle.item_vectors, nested=True))
        scan.unlink()
    arguments = [str(bundle.folder), isa, str(MAX_LEN), str(bundle.config.model.scale), str(threads), str(calls)]
    if learn:
        arguments.append("learn")
    # The first report ends the run: without this ThreadSanitizer continues and hides it under thousands.
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    process = subprocess.run(
        command_of(program, *arguments), capture_output=True, text=True, timeout=timeout, check=False, env=environment
    )
    return (
        "ok"
        if (process.returncode, process.stdout, process.stderr) == (0, "ok\n", "")
        else process.stdout + process.stderr
    )


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sanitizer", action="append", help=f"may be repeated; else {' and '.join(SANITIZERS)}")
    parser.add_argument("--compiler", default=CLANG)
    parser.add_argument("--isa", default=instruction_sets()[-1], help="instruction set (%(default)s)")
    parser.add_argument("--nested", action="store_true", help="with the codes of large catalogs")
    parser.add_argument("--memory", action="store_true", help="with a session memory")
    parser.add_argument("--learn", action="store_true", help="one thread clicks --calls times while the others query")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--calls", type=int, default=100_000, help="a thread (%(default)s)")
    parser.add_argument("--seconds", type=float, default=3600, help="give up after so many (%(default)s)")
    options = parser.parse_args()
    worst = 0
    for sanitizer in options.sanitizer or SANITIZERS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            try:
                program = build(options.compiler, PROGRAM, sanitized(sanitizer, options.compiler), parts=SERVING)
            except CannotBuildError as reason:
                print(f"{sanitizer}: {reason}")
                worst = 2
                continue
            start = time.monotonic()
            printed = run_stress(
                program, folder, options.isa, options.threads, options.calls, options.seconds, options.nested,
                options.memory, options.learn,
            )  # fmt: skip
        kind = (
            "with a memory that learns" if options.learn else "with a memory" if options.memory else "without a memory"
        )
        variant = f"{options.isa}, {kind}"
        work = f"{options.threads} threads x {options.calls} calls, {variant}, {time.monotonic() - start:.0f} s"
        print(f"{sanitizer}: {work}: {printed}", flush=True)
        worst = max(worst, int(printed != "ok"))
    return worst


if __name__ == "__main__":
    sys.exit(main())
