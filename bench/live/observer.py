"""python -m bench.live.observer BUNDLE FOLDER FIRST: observe clicks until killed, and print each acknowledged one.

Event n has the id e<n>. The process ends when its standard output is closed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.live.inputs import ALL
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender

SESSION = 4  # clicks


def main(bundle: str, folder: str, first: str) -> None:
    """Observe from event `first` on."""
    recommender = Recommender.load(
        bundle, learn=LearningSettings(Path(folder), compact=False, limits=ALL), verify=False
    )
    n_items, number = recommender.bundle.n_items, int(first)
    while True:
        recommender.observe(f"s{number // SESSION}", [number % n_items + 1], ids=[f"e{number}"])
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
        number += 1


if __name__ == "__main__":
    main(*sys.argv[1:])
