"""A shop's largest logs: every phase from a log of OTTO's shape to a bundle, its processor time and peak memory.

python -m bench.large_log FOLDER [--events 2e8] [--memory GB] [--json FILE]
python -m bench.large_log FOLDER --serve 2e6 [--ann]

The log is synthetic and written in pieces. Each phase runs in its own process on one thread. FOLDER keeps log, data
set, tables and phases.json, so the same command continues after the last finished phase. Of the encoder some samples
are trained and of the validation some are ranked; the total multiplies them up to a whole training.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.harness.report import Line, Report, bench_parser, command, parse
from bench.large_log.log import EVENTS, LogSize
from bench.large_log.phases import PHASES, Setting, config_of, measure
from bench.large_log.serving import make_bundle, served
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.storage.files import read_json, write_json

BENCH = "large_log"
HOURS, GIGABYTES = 8.0, 16.0  # what a whole training may take
_QUICK = 60_000


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the missing phases; return 1 if one failed."""
    parser = bench_parser(BENCH, (__doc__ or "").splitlines()[0], "a log of 60,000 events")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="for all files, kept for later runs")
    parser.add_argument("--events", type=float, default=EVENTS, metavar="N", help="of the log (default: 2e8)")
    parser.add_argument("--only", metavar="PHASE[,PHASE]", help=f"of {', '.join(PHASES)}")
    parser.add_argument("--memory", type=float, default=5.0, metavar="GB", help="for building tables (default: 5)")
    parser.add_argument("--samples", type=float, default=1e6, metavar="N", help="of the encoder (default: 1e6)")
    parser.add_argument("--ranked", type=float, default=2e4, metavar="N", help="test samples (default: 2e4)")
    parser.add_argument("--ranker-samples", type=float, metavar="N", help="of its fit (default: the preset's)")
    parser.add_argument("--serve", type=float, metavar="N", help="serve a generated bundle of N items instead")
    parser.add_argument(
        "--ann", action="store_true", help="with --serve: also by the approximate index, built if missing"
    )
    options = parse(parser, argv)
    size = LogSize(_QUICK if options.quick else int(options.events))
    if options.memory <= 0:
        raise UsageError(f"--memory {options.memory:g}: give gigabytes above 0")
    names = list(PHASES) if options.only is None else options.only.split(",")
    for name in names:
        if name not in PHASES:
            raise UsageError(f"--only {options.only}: there is no phase {name!r}; the phases are {', '.join(PHASES)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.serve is not None:
        return _serve(options.folder / f"items-{int(options.serve)}.bundle", int(options.serve), options)
    full = config_of().ranker.ranker_samples
    setting = Setting(
        options.folder, size, int(options.memory * 1e9), int(options.samples), int(options.ranked),
        int(options.ranker_samples or full),
    )  # fmt: skip
    report = Report(BENCH, options.quick)
    kept = _Kept(options.folder / "phases.json", setting, report.checkout.as_json())
    for name in names:
        if name in kept.phases:
            continue
        try:
            kept.add(name, asdict(measure(name, setting)))
        except MtawError as error:
            report.refuse(str(error))
            break
        print(_told(name, kept.phases[name]), flush=True)
    params = {"events": size.events, "sessions": size.sessions, "items": size.items, "threads": 1}
    for name, measured in kept.phases.items():
        report.lines.append(Line.of_value(BENCH, name, params, "processor_s", measured["processor"]))
        report.lines.append(Line.of_value(BENCH, name, params, "peak_mb", measured["peak"] / 1e6))
        report.records.append({"case": name, "params": params, "facts": measured["facts"]})
    if kept.phases.keys() == PHASES.keys() and kept.phases["ranker"]["facts"]["ranker_samples"] == full:
        for title, hours in totals(kept.phases).items():
            report.lines.append(
                Line.of_value(BENCH, title, params, "processor_h", hours, floor=(HOURS, "hours that it may take"))
            )
        peak = max(phase["peak"] for phase in kept.phases.values()) / 1e9
        report.notes.append(f"peak {peak:.1f} GB of {GIGABYTES:g} that it may take")
    return report.finish(options.json)


def _serve(bundle: Path, n_items: int, options: argparse.Namespace) -> int:
    report = Report(BENCH, options.quick)
    make_bundle(bundle, n_items, options.ann)
    for index in ("native", "ann") if options.ann else ("native",):
        for metric, value in served(bundle, n_items, index).items():
            params = {"items": n_items, "index": index, "threads": 1}
            report.lines.append(Line.of_value(BENCH, "serve", params, metric, value))
    return report.finish(options.json)


def totals(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the hours of processor time of a whole run by these phases: one that does not refit with one epoch, and
    one by the preset."""
    seconds = {name: phase["processor"] for name, phase in phases.items()}
    facts = {name: phase["facts"] for name, phase in phases.items()}
    config = config_of()
    training = facts["encoder"]
    epoch = training["steps_s"] * training["samples_an_epoch"] / training["samples"]
    validated = facts["validate"]
    validation = validated["ranked_s"] * validated["validation_samples"] / validated["ranked"]
    memory = seconds["tables"] + seconds["trends"]

    def hours(encoders: int, epochs: int, rankers: int) -> float:
        trained = encoders * (seconds["start"] + epochs * epoch) + rankers * seconds["ranker"]
        return (seconds["prepare"] + trained + 2 * memory + validation) / 3600  # tables: to validate, and of the bundle

    return {"one epoch, no refit": hours(2, 1, 1), "preset full": hours(4, config.optimizer.epochs, 2)}


class _Kept:
    """The finished phases, in a file."""

    def __init__(self, path: Path, setting: Setting, commit: str | None) -> None:
        self._path = path
        fields = {**asdict(setting), "folder": None, "size": setting.size.events, "commit": commit}
        self._setting = {name: value for name, value in fields.items() if value is not None}
        self.phases: dict[str, Any] = {}
        if path.exists():
            value = read_json(path, DataError)
            if not isinstance(value, dict) or not all(isinstance(value.get(k), dict) for k in ("setting", "phases")):
                raise DataError(f"{path} does not hold the phases of this bench; remove it or name another folder")
            for name, expected in self._setting.items():
                stored = value["setting"].get(name)
                if stored != expected:
                    raise DataError(f"{path}: its phases have {name} {stored}, not {expected}; name another folder")
            self.phases = value["phases"]

    def add(self, name: str, measured: dict[str, Any]) -> None:
        """Keep a phase."""
        self.phases[name] = measured
        write_json(self._path, {"setting": self._setting, "phases": self.phases})


def _told(name: str, one: Mapping[str, Any]) -> str:
    facts = ", ".join(
        f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in one["facts"].items()
    )
    return f"{name}: {one['processor']:.1f} s of processor time, peak {one['peak'] / 1e9:.2f} GB; {facts}"
