"""Refreshes killed at random moments, repeatedly; run by hand, `python -m tests.refreshing.kills`.

Half of the shops get a new day by an update, half by a training that is judged. A third of the moments is spread over
the whole run, a third over its steps in turn, a third comes right before a file is written, renamed or removed. Every
fourth shop is killed twice. One process in ten starts from nothing instead of by a fork. After each kill, the served
bundle must be whole and answer. The next run must end with what a run without a kill leaves: the same files with the
same bytes, but for times of the clock.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

from mtaw_fast.refreshing.steps import STEPS
from tests.support.refreshes import KINDS, RefreshProcess, begun_shop, check_same, check_served, copied, warm

_SPAWNED = 10  # one process in so many
_TWICE = 4
_AT = ("start", "read", *STEPS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="runs with kills (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="what the runs are (default: both in turn)")
    parser.add_argument("--begun", type=Path, help="a shop with a first bundle, instead of a new one")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    kinds = arguments.kind or list(KINDS)
    warm()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shops = {kind: begun_shop(folder / kind, kind, arguments.begun) for kind in kinds}
        lengths = dict[tuple[str, bool], RefreshProcess]()
        table = Counter[tuple[str, str, str]]()
        for number in range(arguments.runs):
            kind, turn = kinds[number % len(kinds)], number // len(kinds)
            spawned = number % _SPAWNED == _SPAWNED - 1
            if (kind, spawned) not in lengths:
                lengths[kind, spawned] = _length(shops[kind], folder, kind, spawned)
            shop, whole = copied(shops[kind], folder / "killed"), lengths[kind, spawned]
            for _ in range(1 + (turn % _TWICE == 0)):
                last, (step, seconds) = 0, ("start", chance.uniform(0, whole.seconds))
                if turn % 3 == 1:
                    step, seconds = _moment_in_step(chance, turn // 3, whole)
                elif turn % 3 == 2 and not spawned:
                    last, (step, seconds) = chance.randint(1, whole.operations), ("never", 0.0)
                at = RefreshProcess(shop, spawned, last).kill(step, seconds)
                table[kind, at or "ended before", check_served(shop)] += 1
                print(f"run {number + 1}: {kind}, killed at {at or 'its end'}", flush=True)
            RefreshProcess(shop, spawned=False).end()
            check_same(folder / f"{kind} {spawned}", shop)
            shutil.rmtree(shop)
    _print(table)


def _length(shop: Path, folder: Path, kind: str, spawned: bool) -> RefreshProcess:
    """Refresh a copy without a kill, which stays; return the process."""
    process = RefreshProcess(copied(shop, folder / f"{kind} {spawned}"), spawned)
    process.end()
    print(f"{kind}, {'spawned' if spawned else 'forked'}, without a kill: {process.seconds:.2f} s", flush=True)
    return process


def _moment_in_step(chance: random.Random, turn: int, whole: RefreshProcess) -> tuple[str, float]:
    """Return a step, each in turn, and how long after its begin to kill."""
    place = turn % len(whole.steps)
    name, begin = whole.steps[place]
    end = (*whole.steps, ("end", whole.seconds))[place + 1][1]
    return name, chance.uniform(0, max(0.003, end - begin))


def _print(table: Counter[tuple[str, str, str]]) -> None:
    columns = sorted({(kind, served) for kind, _, served in table})
    print("".join([f"{'killed at':<14}", *(f"{f'{kind}: {served}':>30}" for kind, served in columns)]))
    for step in (*_AT, "ended before"):
        counts = [table[kind, step, served] for kind, served in columns]
        print(f"{step:<14}" + "".join(f"{count:>30}" for count in counts))
    print(f"{sum(table.values())} kills: a whole bundle was served after each, and the next run ended the same")


if __name__ == "__main__":
    main()
