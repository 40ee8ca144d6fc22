"""Damaged bundles: loading one raises a one-line error, that of libmtaw too, or returns a Recommender that answers; it
never crashes or hangs.

    python -m tests.fuzz.bundles --cases 100000            until done, or a case fails
    python -m tests.fuzz.bundles --first 4711 --cases 1    one case again

The cases run in their own process, so that a crash is reported like any other failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mtaw_fast.errors import BundleError, MtawError
from mtaw_fast.recommender import Recommender
from tests.fuzz.mutations import Files, mutated, spoil
from tests.support.endings import endings
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts, save_random

ROOT = Path(__file__).resolve().parents[2]
N, CASE_SECONDS = 60, 60


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 if every case passed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--here", action="store_true", help="run the cases in this process")
    options = parser.parse_args(arguments)
    if options.here:
        with tempfile.TemporaryDirectory() as name:
            return _run(Path(name), options.first, options.cases)
    command = [sys.executable, "-m", "tests.fuzz.bundles", "--here"]
    command += ["--first", str(options.first), "--cases", str(options.cases)]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    *_, last = process.stdout.splitlines() or ["nothing ran"]
    print(last if process.returncode == 0 else f"{last} failed, exit status {process.returncode}")
    return int(process.returncode != 0)


def _run(work: Path, first: int, cases: int) -> int:
    kinds = _whole_bundles(work)
    loaded = 0
    for number in range(first, first + cases):
        print(f"case {number}", flush=True)
        faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
        rng = Random(number)
        folder = work / "case"
        folder.mkdir()
        for name, data in mutated(rng, rng.choice(kinds), kinds).items():
            (folder / name).write_bytes(data)
        if rng.random() < 0.05 and any(folder.iterdir()):
            spoil(rng, folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numpy's, on NaNs and infinities
                loaded += _one_case(rng, folder)
        except Exception:
            traceback.print_exc()
            return 1
        shutil.rmtree(folder)
    faulthandler.cancel_dump_traceback_later()
    print(f"{cases} cases: {loaded} loaded, {cases - loaded} refused")
    return 0


def _whole_bundles(work: Path) -> list[Files]:
    """Make a bundle of each readable kind: text ids, int ids, with a session memory."""
    save_random(work / "text", n_items=N, max_session_length=6)
    save_random(work / "int", n_items=N, max_session_length=6, text=False)
    save_parts(work / "memory", **bundle_parts(n_items=N, max_session_length=6), **memory_parts(N))
    kinds = ("text", "int", "memory")
    return [{p.name: p.read_bytes() for p in (work / kind).iterdir()} for kind in kinds]


def _one_case(rng: Random, folder: Path) -> bool:
    """Load and use a bundle; return whether it loaded. Errors other than one-line errors propagate."""
    verify = rng.random() < 0.5
    python, c = endings(folder, verify)
    assert python == c, (python, c)
    encoder = rng.choice(("auto", "auto", "auto", "numpy"))
    index = rng.choice(("auto", "auto", "auto", "numpy"))
    try:
        rec = Recommender.load(folder, encoder=encoder, index=index, verify=verify)
    except BundleError as error:
        _check_message(error)
        return False
    for call in _calls(rng, rec):
        try:
            out = call()
            for answer in out if isinstance(out, list) else [out]:
                assert len(answer.items) == len(answer.scores) <= N
        except (MtawError, ValueError) as error:
            _check_message(error)
    return True


def _check_message(error: Exception) -> None:
    text = str(error)
    assert text.encode().decode().isprintable(), repr(text)
    assert 10 < len(text) < 1000, repr(text)


def _calls(rng: Random, rec: Recommender) -> list[Any]:
    def some(count: int) -> list[Any]:
        return [rng.choice((f"sku-{rng.randrange(N)}", 10 * rng.randrange(N) + 7, "nobody")) for _ in range(count)]

    visit = rec.session()
    return [
        lambda: rec.recommend(some(4), 5),
        lambda: rec.recommend(some(9), N, exclude_seen=True, repeats=True),
        lambda: rec.recommend(some(3), 7, exclude=some(5), filter=rec.filter(exclude=some(20))),
        lambda: rec.recommend(some(2), 7, allow=some(6)),
        lambda: rec.recommend([], 9),
        lambda: rec.recommend_batch([some(3), [], some(12)], 5),
        lambda: rec.similar_items(some(1)[0], 5),
        lambda: visit.click(*some(3)).recommend(5),
        lambda: visit.click(*some(8)).recommend(5, exclude_seen=True),
    ]


if __name__ == "__main__":
    np.seterr(all="ignore")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
