"""`mtaw-fast evaluate`: a bundle on held-out samples, through the path that serves, beside the baselines."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import WEIGHTS_HELP, RankingProgress, add_command, add_serving_options, print_json
from mtaw_fast.errors import DataWarning
from mtaw_fast.workflow import evaluate


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "evaluate",
        run,
        "Score a bundle on a data set's test or validation samples, beside simple baselines.",
        "mtaw-fast evaluate shop.bundle shop.dataset --split test --json",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="which samples")
    parser.add_argument(
        "--unseen",
        choices=("leave-out", "misses"),
        default="leave-out",
        help="test targets on items that training never saw: leave them out, or count them as misses",
    )
    parser.add_argument(
        "--weights", metavar="TYPE=W,..", help=WEIGHTS_HELP.format(what="weighted metrics beside the plain")
    )
    parser.add_argument("--no-baselines", action="store_true", help="leave the baselines out")
    parser.add_argument("--json", action="store_true", help="metrics in percent as JSON")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    with RankingProgress(not arguments.json) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are printed below
        found = evaluate(
            arguments.bundle,
            arguments.dataset,
            split=arguments.split,
            unseen=arguments.unseen,
            weights=arguments.weights,
            baselines=not arguments.no_baselines,
            encoder=arguments.encoder,
            index=arguments.index,
            progress=progress,
        )
    for text in found.warnings:
        print(f"warning: {text}", file=sys.stderr)
    if arguments.json:
        print_json(found.as_dict())
    else:
        print(found)
