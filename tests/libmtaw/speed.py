"""How long libmtaw and the package take for the same calls: a median of each, interleaved, and of opening a bundle.

python -m tests.libmtaw.speed BUNDLE       a bundle with text ids
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from mtaw_fast.cli.config import header_file, library_file
from mtaw_fast.recommender import Recommender

_ROUNDS, _CALLS = 7, 2000


def main() -> None:
    """Compile the program, run both in turn, print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    bundle = parser.parse_args().bundle
    at = int(time.time() * 1000)
    rng, c, python, opened, loaded = np.random.default_rng(0), [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        program, library = Path(folder) / "speed", library_file().parent
        source = Path(__file__).with_name("speed.c")
        flags = [f"-I{header_file().parent}", f"-L{library}", f"-Wl,-rpath,{library}", "-lmtaw"]
        subprocess.run(["gcc", "-O2", "-std=c99", str(source), *flags, "-o", str(program)], check=True)
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            rec = Recommender.load(bundle, encoder="native", index="native")
            loaded.append(time.perf_counter() - start)
            items = list(rec.ids)
            sessions = [[items[p] for p in rng.integers(0, len(items), rng.integers(1, 9))] for _ in range(_CALLS)]
            text = "".join(" ".join(session) + "\n" for session in sessions)
            done = subprocess.run([program, bundle, str(at)], input=text, capture_output=True, text=True, check=True)
            seconds, median = map(float, done.stdout.split())
            opened.append(seconds / 1e6)
            c.append(median)
            times = []
            for session in sessions:
                start = time.perf_counter()
                rec.recommend(session, at=at)
                times.append(time.perf_counter() - start)
            python.append(float(np.median(times)) * 1e6)
    calls = f"libmtaw {np.median(c):.1f} us a call, Python {np.median(python):.1f} us"
    starts = f"open {1e3 * np.median(opened):.0f} ms, load {1e3 * np.median(loaded):.0f} ms"
    print(f"{bundle.name}: {len(items):,} items; {calls}; {starts}")


if __name__ == "__main__":
    main()
