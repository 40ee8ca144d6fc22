"""`mtaw-fast report`: one HTML page about a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import (
    add_command,
    add_evaluation_options,
    add_number,
    evaluation_options,
    print_json,
    progress_bar,
)
from mtaw_fast.report import write_report


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "report",
        run,
        "Write one HTML page about a bundle: its data, curves, metrics, features and example sessions (the extra "
        "'report').",
        "mtaw-fast report shop.bundle --dataset shop.dataset",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="HTML file to write (default: BUNDLE.html next to the bundle)"
    )
    parser.add_argument(
        "--dataset", type=Path, metavar="DATASET", help="add metrics with intervals next to the baselines, and example "
        "sessions that training never saw (default: validation metrics and training sessions)",
    )  # fmt: skip
    add_evaluation_options(parser, split_help="which samples of DATASET to evaluate", weights=True)
    add_number(parser, "--sessions", "N", 5, "number of example sessions")
    parser.add_argument("--json", action="store_true", help="print the path of the page as JSON, without progress bars")


def run(arguments: argparse.Namespace) -> None:
    """Write the page and print its path."""
    with progress_bar(not arguments.json) as progress:
        path = write_report(
            arguments.bundle,
            arguments.out,
            dataset=arguments.dataset,
            sessions=arguments.sessions,
            progress=progress,
            **evaluation_options(arguments),
        )
    if arguments.json:
        print_json({"bundle": str(arguments.bundle), "report": str(path)})
    else:
        print(f"wrote {path}")
