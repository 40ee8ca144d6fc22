"""`mtaw-fast evaluate`: metrics of a bundle on held-out samples, compared with simple baselines."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import (
    add_command,
    add_evaluation_options,
    evaluation_options,
    print_json,
    print_warnings,
    progress_bar,
)
from mtaw_fast.errors import DataWarning
from mtaw_fast.workflow import evaluate


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        "Measure a bundle on the test or validation samples of a data set, and compare it with simple baselines.",
        "mtaw-fast evaluate shop.bundle shop.dataset --split test --json",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder made by 'prepare'")
    add_evaluation_options(parser, weights=True)
    parser.add_argument(
        "--unseen",
        choices=("leave-out", "misses"),
        default="leave-out",
        help="what to do with test targets whose items training never saw: leave them out, or count them as misses",
    )
    parser.add_argument("--no-baselines", action="store_true", help="do not evaluate the baselines")
    parser.add_argument("--json", action="store_true", help="print the metrics, also by slice, as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    with progress_bar(not arguments.json) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are printed below
        evaluation = evaluate(
            arguments.bundle,
            arguments.dataset,
            unseen=arguments.unseen,
            baselines=not arguments.no_baselines,
            progress=progress,
            **evaluation_options(arguments),
        )
    print_warnings(evaluation.warnings)
    if arguments.json:
        print_json(evaluation.as_dict())
    else:
        print(evaluation)
