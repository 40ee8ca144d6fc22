"""Peers: other systems, trained on the same sessions in environments of their own, ranked by our evaluation.

python -m bench.peers --setup
python -m bench.peers --data DIR --system NAME[,NAME] [--dataset NAMES] [--minutes M] [--no-test] [--checkouts DIR]
python -m bench.peers --table
python -m bench.peers --quick

A system trains for M minutes of processor time on one thread and saves a checkpoint; the same command later continues.
Epochs are chosen by MRR@20 on the validation sessions, the last of the training sessions, as in our own training. Then
the best weights rank the test set. Each record in docs/results/peers.jsonl lists its reads of the test set. A system
without its environment or its authors' code is skipped with the reason. --quick ranks Item-KNN, which needs neither, on
a small generated log and keeps nothing. --json FILE writes the records that the run made or found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.report import Report, bench_parser, chosen, command, parse
from bench.peers.environments import set_up, why_not
from bench.peers.running import Folders, run
from bench.peers.systems import SYSTEMS, system_of
from bench.peers.table import render
from bench.quality.runs import prepared
from mtaw_fast.data.synthetic import generate
from mtaw_fast.errors import UsageError

DATASETS = "tmall,retailrocket"
RESULTS, WORK, ENVIRONMENTS = Path("docs/results"), Path("runs/peers"), Path("runs/peers/environments")
_QUICK_ITEMS, _QUICK_SESSIONS = 200, 1500


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of the options; return the exit status."""
    options = _checked(parse(_parser(), argv))
    folders = Folders(options.results or RESULTS, options.work or WORK, ENVIRONMENTS, options.checkouts)
    if options.setup:
        set_up(folders.environments)
        return 0
    if options.table:
        print(render(folders.results))
        return 0
    return _run(options, folders)


def _parser() -> argparse.ArgumentParser:
    parser = bench_parser("peers", __doc__, "seconds: Item-KNN on a small generated log, nothing kept")
    parser.epilog = "example: python -m bench.peers --data DATA --system gru4rec,sasrec --dataset tmall --minutes 10"
    names = ", ".join(system.name for system in SYSTEMS)
    parser.add_argument("--setup", action="store_true", help="make the missing virtual environments (pip)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with tmall/ and retailrocket/, as npz")
    parser.add_argument("--system", metavar="NAMES", help=f"with commas, or 'all': {names}")
    parser.add_argument("--dataset", default=DATASETS, metavar="NAMES", help=f"with commas (default: {DATASETS})")
    parser.add_argument(
        "--minutes", type=float, default=60.0, metavar="M", help="of processor time for each training (default: 60)"
    )
    parser.add_argument("--no-test", action="store_true", help="do not read the test set: more training follows")
    parser.add_argument("--table", action="store_true", help="print the tables of the records, as Markdown")
    parser.add_argument(
        "--checkouts", type=Path, metavar="DIR", help="folder with the authors' repositories, GCE-GNN and DHCN"
    )
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"folder of the records (default: {RESULTS})")
    parser.add_argument("--work", type=Path, metavar="DIR", help=f"folder of running trainings (default: {WORK})")
    return parser


def _checked(options: argparse.Namespace) -> argparse.Namespace:
    """Return the options; UsageError if they contradict each other."""
    if options.quick:
        for name in ("data", "system", "results", "work"):
            if getattr(options, name) is not None:
                raise UsageError(f"--quick generates its data and keeps no records: leave --{name} out")
    elif not (options.setup or options.table) and (options.data is None or not options.system):
        raise UsageError("give --data and --system, or --setup, --table or --quick")
    if options.minutes < 0:
        raise UsageError(f"--minutes {options.minutes:g}: give 0 or more")
    return options


def _run(options: argparse.Namespace, folders: Folders) -> int:
    report = Report("peers", options.quick)
    if options.quick:
        with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as name:
            quick_folders = Folders(Path(name) / "results", Path(name) / "work", folders.environments, None)
            dataset = generate(_QUICK_ITEMS, _QUICK_SESSIONS)
            report.records.append(_printed(run(system_of("item-knn"), dataset, quick_folders, 0, True)))
        return report.finish(options.json)
    wanted = None if options.system == "all" else options.system.lower()
    systems = [system_of(name) for name in chosen("--system", wanted, [system.name for system in SYSTEMS], "system")]
    ran = 0
    for name in options.dataset.split(","):
        folders.work.mkdir(parents=True, exist_ok=True)
        dataset = prepared(options.data, name, folders.work)
        for system in systems:
            reason = why_not(system, folders.environments, folders.checkouts)
            if reason is not None:
                print(f"skipped {system.name}: {reason}", file=sys.stderr)
                continue
            ran += 1
            print(f"{name} {system.title}", file=sys.stderr, flush=True)
            record = run(system, dataset, folders, options.minutes, not options.no_test)
            if "metrics" in record:
                report.records.append(_printed(record))
    return report.finish(options.json) if ran else 0


def _printed(record: dict[str, Any]) -> dict[str, Any]:
    """Print a record in one line, and return it."""
    metrics, training = record["metrics"], record["training"]
    parts = [f"{name} {metrics[name]:.2f}" for name in ("P@20", "MRR@20")]
    parts += [f"{label} {record[part]['P@20']:.2f}" for label, part in (("repeat", "repeat"), ("new", "non_repeat"))
              if record[part]["P@20"] is not None]  # fmt: skip
    print(f"{record['dataset']['name']} {record['title']}, {training['epochs_done']:g} of {training['epochs_asked']} "
          f"epochs: {', '.join(parts)}, {training['cpu_seconds']:.0f} s of training", flush=True)  # fmt: skip
    return record


if __name__ == "__main__":
    raise SystemExit(main())
