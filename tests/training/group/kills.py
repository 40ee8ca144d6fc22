"""Processes of a group killed at random moments, repeatedly; run by hand, `python -m tests.training.group.kills`.

Each run trains the preset `full` on a small log by a group whose processes are killed now and then, rank 0 while it
fits the ranker included. torchrun starts the group again, and what it ends with must be, to the bit, what an
undisturbed group of as many processes ends with.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.support.training.ring import ring_dataset
from tests.support.training.torchrun import Started, losses_of, weights_of

_RESTARTS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="trainings with kills (default: 10)")
    parser.add_argument("--world", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        dataset = folder / "ring.dataset"
        ring_dataset().save(dataset)
        began = time.monotonic()
        Started(arguments.world, dataset, folder / "undisturbed", "full").end()
        seconds = time.monotonic() - began
        print(f"undisturbed: {seconds:.1f} s", flush=True)
        for number in range(arguments.runs):
            bundle = folder / f"killed-{number}"
            run, killed = Started(arguments.world, dataset, bundle, "full", restarts=_RESTARTS), []
            for _ in range(_RESTARTS):
                rank, pause = chance.randrange(arguments.world), chance.uniform(0.1, 1.2) * seconds
                deadline = time.monotonic() + pause
                while run.running and time.monotonic() < deadline:
                    time.sleep(0.01)
                if not run.running:
                    break
                try:
                    run.kill(rank)
                except AssertionError:  # it was just starting again, or ending
                    continue
                state = run.state()
                killed.append((rank, "no epoch" if state is None else f"{state['phase']} {state['epoch']}"))
            run.end()
            _compare(folder / "undisturbed", bundle)
            reported = "; ".join(f"rank {rank} after {epoch}" for rank, epoch in killed) or "no process"
            print(f"run {number + 1}: killed {reported}: the same bits", flush=True)


def _compare(expected: Path, got: Path) -> None:
    if losses_of(expected) != losses_of(got):
        raise SystemExit(f"losses differ: {losses_of(expected)} and {losses_of(got)}")
    arrays = weights_of(got)
    for name, array in weights_of(expected).items():
        if not np.array_equal(array, arrays[name]):
            raise SystemExit(f"{name} differs by {np.abs(array - arrays[name]).max()}")


if __name__ == "__main__":
    main()
