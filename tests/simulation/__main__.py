"""Simulate histories of the learning log, from a seed on; print a failing one as a short story.

python -m tests.simulation --histories 20000
python -m tests.simulation --seed 61 --histories 1 --story
python -m tests.simulation --bug no-fsync --histories 2000
python -m tests.simulation --every-call
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.simulation.bugs import BUGS, planted
from tests.simulation.history import drawn, line_of
from tests.simulation.search import EVENTFUL, failure_of, shrunk, stopped_everywhere

_REPORTED = 500  # histories after each of which a line is printed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first history")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="processor time after which to end")
    parser.add_argument("--bug", choices=BUGS, help="plant this bug")
    parser.add_argument("--story", action="store_true", help="print what happens, also without a failure")
    parser.add_argument("--every-call", action="store_true", help="stop one eventful history at each of its calls")
    options = parser.parse_args()
    begin = time.process_time()
    if options.every_call:
        return _every_call()
    with planted(options.bug):
        for number in range(options.histories):
            if time.process_time() - begin > options.seconds:
                print(f"ended after {number} histories")
                break
            if number and number % _REPORTED == 0:
                print(f"seeds {options.seed} to {options.seed + number - 1}: no failure", flush=True)
            history = drawn(options.seed + number)
            failure, story = failure_of(history)
            if options.story:
                print("\n".join(story))
            if failure:
                print(f"history {number + 1}, seed {history.seed}: {failure}\n\nshrunk to:\n")
                history = shrunk(history)
                failure, story = failure_of(history)
                print("\n".join(story), failure, "", history, sep="\n")
                return 1
    seconds = time.process_time() - begin
    print(f"{number + 1} histories, no failure; {60 * (number + 1) / seconds:.0f} a minute of processor time")
    return 0


def _every_call() -> int:
    count = 0
    for place, step in enumerate(EVENTFUL.steps):
        begin = count
        for history, failure, story in stopped_everywhere(place):
            count += 1
            if failure:
                print("\n".join(story), failure, "", history, sep="\n")
                return 1
        print(f"{count - begin} stops in step {place + 1}, {line_of(step)}: no failure", flush=True)
    print(f"{count} histories, no failure")
    return 0


if __name__ == "__main__":
    sys.exit(main())
