"""`mtaw-fast compare`: two bundles on the same samples, with intervals."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import (
    add_command,
    add_evaluation_options,
    add_number,
    evaluation_options,
    print_json,
    print_warnings,
    progress_bar,
)
from mtaw_fast.errors import DataWarning
from mtaw_fast.workflow import compare


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "compare",
        run,
        "Compare two bundles on the same samples: the difference of every metric with its interval, by slice, how the "
        "lists differ, and sessions for which only one of the two finds the target.",
        "mtaw-fast compare old.bundle new.bundle shop.dataset",
    )
    parser.add_argument("first", type=Path, metavar="A", help="bundle to compare with, such as the one that serves")
    parser.add_argument("second", type=Path, metavar="B", help="bundle to judge; a difference is B's metric minus A's")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder made by 'prepare'")
    add_evaluation_options(parser, weights=False)
    add_number(parser, "--examples", "N", 6, "most sessions to show for which only one finds the target")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Compare and print the verdict, then the tables."""
    with progress_bar(not arguments.json) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are printed below
        comparison = compare(
            arguments.first,
            arguments.second,
            arguments.dataset,
            examples=arguments.examples,
            progress=progress,
            **evaluation_options(arguments),
        )
    print_warnings(comparison.warnings)
    if arguments.json:
        print_json(comparison.as_dict())
    else:
        print(comparison)
