"""What `evaluate` spends on the metrics of lists, the slices and their intervals, besides ranks, P@K and MRR@K.

python -m bench.quality.evaluate_cost --bundle shop.bundle --dataset shop.dataset [--rounds N]

It takes the validation samples, so no test set is read. Both sides run in one process in turn; the ratio of their
processor time is the median over the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.harness.machine import describe, machine_record
from bench.harness.report import command
from mtaw_fast import Dataset, Recommender, evaluate
from mtaw_fast.assessment.inputs import rankable_by, split_of
from mtaw_fast.errors import DataWarning, MtawError
from mtaw_fast.evaluation import Report, protocol


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and print a line; return 0."""
    parser = argparse.ArgumentParser("python -m bench.quality.evaluate_cost", description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="a bundle of any preset")
    parser.add_argument("--dataset", type=Path, required=True, help="a data set with its sessions")
    parser.add_argument("--rounds", type=int, default=5, help="how often both sides run (default: 5)")
    options = parser.parse_args(argv)
    recommender, data = Recommender.load(options.bundle), Dataset.load(options.dataset)

    def plain() -> Report:
        fraction = recommender.bundle.config.optimizer.validation_fraction
        part = split_of(data, data.name, "validation", fraction)
        return protocol.evaluate(recommender, rankable_by(recommender, part.samples, data))

    def whole() -> Report:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            return evaluate(recommender, data, split="validation").report

    ratios, seconds = [], []
    for _ in range(options.rounds):
        (plain_report, plain_seconds), (whole_report, whole_seconds) = _timed(plain), _timed(whole)
        if plain_report.metrics != whole_report.metrics:
            raise MtawError("quality.evaluate_cost: both sides must have the same P@K and MRR@K")
        ratios.append(whole_seconds / plain_seconds)
        seconds.append(plain_seconds)
    print(
        f"{plain_report.samples:,} samples: {statistics.median(seconds):.2f} s of processor time for ranks, "
        f"{statistics.median(ratios):.2f} times as much with everything ({describe(machine_record())})"
    )
    return 0


def _timed(run: Callable[[], Report]) -> tuple[Report, float]:
    """Return a report and the processor time that it took, in seconds."""
    begin = time.process_time()
    return run(), time.process_time() - begin


if __name__ == "__main__":
    raise SystemExit(main())
