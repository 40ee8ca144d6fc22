"""Quality: train presets on the public sets, score them through the path that serves, and keep every figure.

python -m bench.quality --data DIR --preset P [--seeds N] [--split validation|test] [--dataset NAMES] [--set KEY=VALUE]
python -m bench.quality --quick
python -m bench.quality --table [--preset P]

Screen settings on the validation sessions (--split validation, one seed); the chosen ones read the test set once, on
several seeds (--split test). Each run is a line of docs/results/quality.jsonl, named by its settings and seed. A
recorded run is not repeated and an interrupted one continues. A test set is not read twice for the same finalist
unless --again says why; the line lists the reads. --protocol not-refit leaves the validation sessions unlearned.
--quick does all this on a small generated log and keeps nothing. --json FILE writes the records that the run made or
found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness.comparison import limit_threads
from bench.harness.machine import usable_cores
from bench.harness.report import Report, bench_parser, command, parse
from bench.quality.records import HELD_OUT, NOT_REFIT, PROTOCOLS, SPLITS, Finalist, protocol_of, records_in
from bench.quality.table import render
from mtaw_fast.config import preset
from mtaw_fast.errors import UsageError, require

if TYPE_CHECKING:
    from mtaw_fast.data.dataset import Dataset

DATASETS = "tmall,retailrocket"
BASELINES = "baselines"
RESULTS, WORK = Path("docs/results"), Path("runs/quality")
_SEEDS = {"validation": 1, "test": 5}
_QUICK_PRESETS = (BASELINES, "paper", "full")
_QUICK_SETTINGS = (
    "embedding_dim=16",
    "batch_prefixes=256",
    "epochs=1",
    "validation_fraction=0.1",
    "ranker_fraction=0.3",
)
_QUICK_ITEMS, _QUICK_SESSIONS = 200, 1500


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not recorded yet, or print the tables; return the exit status."""
    options = _checked(parse(_parser(), argv))
    if options.table:
        finished = records_in(options.results or RESULTS).finished()
        print(render([record for record in finished if options.preset in (None, record["preset"])]))
        return 0
    require("torch", "bench")
    import torch  # noqa: F401  # loaded before its threads are limited

    with limit_threads(options.threads):
        return _run(options)


def _parser() -> argparse.ArgumentParser:
    parser = bench_parser("quality", __doc__, "under a minute: a small generated log, tiny settings, nothing kept")
    parser.epilog = "example: python -m bench.quality --data DATA --preset paper --dataset retailrocket --set gamma=6"
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with tmall/ and retailrocket/, as npz")
    parser.add_argument(
        "--preset",
        help=f"a preset of 'mtaw-fast train', or '{BASELINES}' (--quick: default all; --table: that one's rows alone)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting")
    parser.add_argument("--dataset", metavar="NAMES", help=f"which sets, with commas (default: {DATASETS})")
    parser.add_argument("--split", choices=SPLITS, default="test", help="what is scored (default: test)")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="seeds 0..N-1 (default: 5 for test, 1 for validation and --quick)"
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default=HELD_OUT,
        help=f"'{HELD_OUT}': the validation sessions choose the epoch, then are learned too (default); '{NOT_REFIT}': "
        "they choose and stay unlearned, as with other systems",
    )
    parser.add_argument("--again", metavar="WHY", help="read a test set once more for a finalist, and note why")
    parser.add_argument("--table", action="store_true", help="print the tables of the records, as Markdown")
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"folder of the records (default: {RESULTS})")
    parser.add_argument("--work", type=Path, metavar="DIR", help=f"folder of running trainings (default: {WORK})")
    parser.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="(default: all cores)")
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options; UsageError if they contradict each other, before anything is made."""
    if options.table and (options.json is not None or options.quick):
        raise UsageError("--table prints the records and runs nothing: leave --json and --quick out")
    if options.quick:
        for name in ("data", "dataset", "results", "work", "again"):
            if getattr(options, name) is not None:
                raise UsageError(f"--quick generates its data and keeps no records: leave --{name} out")
    elif not options.table and (options.data is None or options.preset is None):
        raise UsageError("give --data and --preset, --quick to try it out, or --table to print the records")
    if options.seeds is not None and options.seeds < 1:
        raise UsageError(f"--seeds {options.seeds}: give at least one seed")
    if options.preset not in (None, BASELINES):
        preset(options.preset).override(options.set)
    if options.protocol == NOT_REFIT and (options.split != "test" or options.preset == BASELINES):
        raise UsageError(f"--protocol {NOT_REFIT} scores a preset on the test set: give one, and leave --split out")
    return options


def _run(options: argparse.Namespace) -> int:
    from bench.quality.runs import prepared
    from mtaw_fast.data.synthetic import generate

    report = Report("quality", options.quick)
    if options.quick:
        dataset = generate(_QUICK_ITEMS, _QUICK_SESSIONS)
        with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
            options.results, options.work = Path(name) / "results", Path(name) / "work"
            for preset_name in [options.preset] if options.preset else _QUICK_PRESETS:
                report.records += _records(dataset, preset_name, options)
    else:
        options.results, options.work = options.results or RESULTS, options.work or WORK
        options.work.mkdir(parents=True, exist_ok=True)
        for name in (options.dataset or DATASETS).split(","):
            report.records += _records(prepared(options.data, name, options.work), options.preset, options)
    return report.finish(options.json)


def _records(dataset: Dataset, preset_name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the records of a preset on a data set, made if missing, and print each at once."""
    from bench.quality.runs import run, run_baselines

    if preset_name == BASELINES:
        for record in run_baselines(dataset, options.split, options.results):
            _say(record)
            yield record
        return
    base = preset(preset_name)
    config = base.override([*(_QUICK_SETTINGS if options.quick else ()), *options.set])
    for seed in range(options.seeds or (1 if options.quick else _SEEDS[options.split])):
        finalist = Finalist(dataset.name, preset_name, config.replace(seed=seed), options.split, options.protocol)
        print(finalist.name, file=sys.stderr, flush=True)
        record = run(finalist, base, dataset, options.results, options.work, options.again)
        _say(record)
        yield record


def _say(record: dict) -> None:
    """Print one line for a record."""
    parts = [f"{name} {record['metrics'][name]:.2f}" for name in ("P@20", "MRR@20")]
    parts += [f"{record['training']['seconds']:.0f} s"] if "training" in record else []
    changed = "".join(f" {name}={value}" for name, value in record["changed"].items())
    kind = " not refit" if protocol_of(record) == NOT_REFIT else ""
    seed = "" if record["seed"] is None else f" seed {record['seed']}"
    name = f"{record['dataset']['name']} {record['split']} {record['preset']}{changed}{kind}{seed}"
    print(f"{name}: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
