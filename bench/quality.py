"""Quality: train presets on the public sets, score them through the path that serves, and keep every figure.

python -m bench.quality --data DIR --preset P [--seeds N] [--split validation|test] [--dataset NAMES] [--set KEY=VALUE]
python -m bench.quality --table

Settings are screened on the validation sessions (--split validation, one seed) and the chosen ones read the test set
once, on several seeds (--split test). Each run is a JSON file under docs/results/, named by its settings and seed: what
is there is not done again, so a run that was cut off goes on where it was, and a test set is not read twice for the
same finalist unless --again says why; the file lists the reads.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.harness import limit_threads
from bench.machine import describe, machine_record, usable_cores
from bench.quality_records import SPLITS, Finalist, every_record
from bench.quality_table import render
from bench.report import exit_code_of
from mtaw_fast.config import preset
from mtaw_fast.errors import MtawError, UsageError, require

DATASETS = ("tmall", "retailrocket")
BASELINES = "baselines"
_SEEDS = {"validation": 1, "test": 5}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not recorded yet, or print the tables; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        if options.table:
            print(render(list(every_record(options.results))))
            return 0
        if options.data is None or options.preset is None:
            raise UsageError("give --data and --preset, or --table to print what is recorded")
        require("torch", "bench")
        import torch  # noqa: F401  # loaded before its threads are limited

        with limit_threads(options.threads):
            _run(options)
    except MtawError as error:
        return exit_code_of(error)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality",
        description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m bench.quality --data DATA --preset paper --dataset retailrocket --set gamma=6",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with tmall/ and retailrocket/, as npz")
    parser.add_argument("--preset", help=f"a preset of 'mtaw-fast train', or '{BASELINES}'")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--dataset", default=",".join(DATASETS), help="which sets, with commas (default: both)")
    parser.add_argument("--split", choices=SPLITS, default="test", help="what is scored (default: test)")
    parser.add_argument("--seeds", type=int, metavar="N", help="seeds 0..N-1 (default: 5 for test, 1 for validation)")
    parser.add_argument("--again", metavar="WHY", help="read a test set once more for a finalist, and note why")
    parser.add_argument("--table", action="store_true", help="print the tables of what is recorded, as Markdown")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="folder of the records")
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="folder of trainings under way")
    parser.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="(default: all cores)")
    return parser


def _run(options: argparse.Namespace) -> None:
    from bench.quality_baselines import run_baselines
    from bench.quality_runs import Places, prepared, run

    seeds = range(_SEEDS[options.split] if options.seeds is None else options.seeds)
    if len(seeds) < 1:
        raise UsageError(f"--seeds {options.seeds}: give at least one seed")
    base = None if options.preset == BASELINES else preset(options.preset)
    config = base and base.override(options.set)
    places = Places(options.results, options.work)
    for folder in (places.results, places.work):
        folder.mkdir(parents=True, exist_ok=True)
    for name in options.dataset.split(","):
        dataset = prepared(options.data, name, places.work)
        if base is None or config is None:
            for record in run_baselines(dataset, options.split, places):
                _say(record)
            continue
        for seed in seeds:
            finalist = Finalist(name, options.preset, dataclasses.replace(config, seed=seed), options.split)
            print(f"{finalist.file_name()}", file=sys.stderr, flush=True)
            _say(run(finalist, base, dataset, places, options.again))
    print(describe(machine_record()))


def _say(record: dict) -> None:
    """One line a record."""
    metrics, apart = record["metrics"], record.get("exclude_seen", {}).get("P@20")
    parts = [f"{name} {metrics[name]:.2f}" for name in ("P@20", "MRR@20")]
    parts += [f"{label} {record[part]['P@20']:.2f}" for label, part in (("repeat", "repeat"), ("new", "non_repeat"))
              if record[part]["P@20"] is not None]  # fmt: skip
    parts += [] if apart is None else [f"new, own left out {apart:.2f}"]
    parts += [f"{record['training']['seconds']:.0f} s"] if "training" in record else []
    seed = "" if record["seed"] is None else f" seed {record['seed']}"
    changed = "".join(f" {name}={value}" for name, value in record["changed"].items())
    print(f"{record['dataset']['name']} {record['split']} {record['preset']}{changed}{seed}: {', '.join(parts)}",
          flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
