"""`mtaw-fast report`: a bundle on one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import WEIGHTS_HELP, RankingProgress, add_command, add_serving_options, print_json
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
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="the HTML file to write (default: BUNDLE.html beside it)"
    )
    parser.add_argument(
        "--dataset", type=Path, metavar="DATASET", help="for metrics with intervals beside the baselines, and examples "
        "that training never saw (default: the metrics on validation, and sessions of the training)",
    )  # fmt: skip
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="which samples of DATASET")
    parser.add_argument(
        "--weights", metavar="TYPE=W,..", help=WEIGHTS_HELP.format(what="weighted metrics beside the plain")
    )
    parser.add_argument("--sessions", type=int, default=5, metavar="N", help="example sessions")
    parser.add_argument("--json", action="store_true", help="print where the page is as JSON, without progress bars")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Write the page and say where."""
    with RankingProgress(not arguments.json) as progress:
        path = write_report(
            arguments.bundle,
            arguments.out,
            dataset=arguments.dataset,
            split=arguments.split,
            weights=arguments.weights,
            sessions=arguments.sessions,
            encoder=arguments.encoder,
            index=arguments.index,
            progress=progress,
        )
    if arguments.json:
        print_json({"bundle": str(arguments.bundle), "report": str(path)})
    else:
        print(f"wrote {path}")
