"""`mtaw-fast evaluate`: metrics of a bundle on held-out samples, compared with simple baselines."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import (
    SLICES_HELP,
    WEIGHTS_HELP,
    add_command,
    add_serving_options,
    names_in,
    print_json,
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
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="which samples")
    parser.add_argument(
        "--unseen",
        choices=("leave-out", "misses"),
        default="leave-out",
        help="what to do with test targets whose items training never saw: leave them out, or count them as misses",
    )
    parser.add_argument(
        "--weights",
        metavar="TYPE=W,..",
        help=WEIGHTS_HELP.format(what="weighted metrics, printed after the plain ones"),
    )
    parser.add_argument("--slices", metavar="NAME,..", help=SLICES_HELP)
    parser.add_argument("--no-baselines", action="store_true", help="do not evaluate the baselines")
    parser.add_argument("--json", action="store_true", help="print the metrics, also by slice, as JSON")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Evaluate and print the table."""
    with progress_bar(not arguments.json) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are printed below
        found = evaluate(
            arguments.bundle,
            arguments.dataset,
            split=arguments.split,
            unseen=arguments.unseen,
            weights=arguments.weights,
            baselines=not arguments.no_baselines,
            slices=names_in(arguments.slices),
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
