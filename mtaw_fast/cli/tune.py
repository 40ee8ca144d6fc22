"""`mtaw-fast tune`: search for better settings on a data set's validation sessions."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, add_number, add_training_options, config_of, print_json, wait_passively
from mtaw_fast.system.figures import figure
from mtaw_fast.tuning import BY, Trial, Tuned, measured_trials, tune


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "tune", run, "mtaw-fast tune shop.dataset --trials 30")
    parser.add_argument(
        "dataset", type=Path, metavar="DATASET", help="folder made by 'prepare'; its test split is never read"
    )
    add_training_options(parser)
    add_number(parser, "--trials", "N", 20, "most settings to try")
    parser.add_argument("--seconds", type=float, metavar="S", help="start no trial after this time (default: no limit)")
    add_number(parser, "--seed", "N", 0, "seed of the search")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without a line per trial")


def run(arguments: argparse.Namespace) -> None:
    """Search for settings with a higher MRR@20 on the validation sessions of a data set (Optuna: the extra 'tune').
    The initial settings stay unless a trial's gain is more than noise."""
    wait_passively()
    result = tune(
        arguments.dataset,
        config_of(arguments),
        trials=arguments.trials,
        seconds=arguments.seconds,
        seed=arguments.seed,
        device=arguments.device,
        threads=arguments.threads,
        progress=None if arguments.json else _print_trial,
    )
    words = ["mtaw-fast", "train", str(arguments.dataset), "BUNDLE", "--preset", arguments.preset]
    words += [word for assignment in (*arguments.set, *result.assignments()) for word in ("--set", assignment)]
    words += [] if arguments.weights is None else ["--weights", arguments.weights]
    command = shlex.join(words)
    if arguments.json:
        print_json(
            {
                "objective": result.objective,
                "best": dataclasses.asdict(result.best),
                "better": result.better,
                "gains": {name: gain.as_dict() for name, gain in result.gains.items()},
                "chosen": dataclasses.asdict(result.chosen),
                "trials": [dataclasses.asdict(trial) for trial in result.trials],
                "command": command,
            }
        )
        return
    print(f"objective: {result.objective}")
    print(f"chosen: trial {result.chosen.number}, {_metrics(result.chosen)} ({_verdict(result)})")
    print(command)


def _verdict(tuned: Tuned) -> str:
    """Return why the chosen trial was chosen."""
    if tuned.best.number == 0:
        return "the initial settings; no other trial is higher"
    gain = tuned.gains.get(BY)
    if gain is None:
        return "the highest; the initial settings did not finish"
    changes = ", ".join(f"{name} {tuned.gains[name].difference:+.2f}" for name in (BY, "P@20"))
    if gain.interval is None:
        return f"the initial settings; trial {tuned.best.number} has {changes}, on too few sessions to tell"
    others = measured_trials(tuned.trials) - 1
    interval = f"{BY} {gain.interval[0]:+.2f} to {gain.interval[1]:+.2f}, 95% for {others} trials together"
    if tuned.better:
        return f"better than the initial settings: {changes}; {interval}"
    return f"the initial settings; trial {tuned.best.number} has {changes}, which may be noise: {interval}"


def _print_trial(trial: Trial) -> None:
    settings = ", ".join(f"{name} {figure(value)}" for name, value in trial.settings.items())
    reached = "" if trial.state == "complete" else f", {trial.state} at {trial.share:.0%} of the sessions"
    print(f"trial {trial.number}: {_metrics(trial)}{reached}  ({settings})", file=sys.stderr)


def _metrics(trial: Trial) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in trial.metrics.items() if name.endswith("@20")) or "none"
