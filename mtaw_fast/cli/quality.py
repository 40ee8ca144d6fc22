"""`mtaw-fast evaluate`, `compare` and `report`: how good bundles are on held-out samples."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mtaw_fast.bundle_page import write_report
from mtaw_fast.cli.common import (
    WEIGHTS_HELP,
    add_command,
    add_number,
    add_serving_options,
    names_in,
    print_json,
    progress_bar,
)
from mtaw_fast.errors import DataWarning
from mtaw_fast.workflow import compare, evaluate


def add_evaluate(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "evaluate", run_evaluate, "mtaw-fast evaluate shop.bundle shop.dataset --split test --json"
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder made by 'prepare'")
    _add_options(parser, weights=True)
    parser.add_argument(
        "--unseen", choices=("leave-out", "misses"), default="leave-out",
        help="what to do with test targets whose items training never saw: leave them out, or count them as misses",
    )  # fmt: skip
    parser.add_argument("--no-baselines", action="store_true", help="do not evaluate the baselines")
    parser.add_argument("--json", action="store_true", help="print the metrics, also by slice, as JSON")


def run_evaluate(arguments: argparse.Namespace) -> None:
    """Measure a bundle on the test or validation samples of a data set, and compare it with simple baselines."""
    baselines = not arguments.no_baselines
    _print(
        arguments, partial(evaluate, arguments.bundle, arguments.dataset, unseen=arguments.unseen, baselines=baselines)
    )


def add_compare(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "compare", run_compare, "mtaw-fast compare old.bundle new.bundle shop.dataset")
    parser.add_argument("first", type=Path, metavar="A", help="bundle to compare with, such as the one that serves")
    parser.add_argument("second", type=Path, metavar="B", help="bundle to judge; a difference is B's metric minus A's")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder made by 'prepare'")
    _add_options(parser, weights=False)
    add_number(parser, "--examples", "N", 6, "most sessions to show for which only one finds the target")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run_compare(arguments: argparse.Namespace) -> None:
    """Compare two bundles on the same samples: the difference of every metric with its interval, by slice, how the
    lists differ, and sessions for which only one of the two finds the target."""
    bundles = (arguments.first, arguments.second)
    _print(arguments, partial(compare, *bundles, arguments.dataset, examples=arguments.examples))


def add_report(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "report", run_report, "mtaw-fast report shop.bundle --dataset shop.dataset")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument(
        "out", type=Path, nargs="?", metavar="OUT", help="HTML file to write (default: BUNDLE.html next to the bundle)"
    )
    parser.add_argument(
        "--dataset", type=Path, metavar="DATASET", help="add metrics with intervals next to the baselines, and example "
        "sessions that training never saw (default: validation metrics and training sessions)",
    )  # fmt: skip
    _add_options(parser, split_help="which samples of DATASET to evaluate", weights=True)
    add_number(parser, "--sessions", "N", 5, "number of example sessions")
    parser.add_argument("--json", action="store_true", help="print the path of the page as JSON, without progress bars")


def run_report(arguments: argparse.Namespace) -> None:
    """Write one HTML page about a bundle: its data, curves, metrics, features and example sessions (the extra
    'report')."""
    options = _options_of(arguments)
    with progress_bar(not arguments.json) as progress:
        path = write_report(
            arguments.bundle, arguments.out, dataset=arguments.dataset, sessions=arguments.sessions, progress=progress,
            **options,
        )  # fmt: skip
    if arguments.json:
        print_json({"bundle": str(arguments.bundle), "report": str(path)})
    else:
        print(f"wrote {path}")


def _add_options(parser: argparse.ArgumentParser, *, split_help: str = "which samples", weights: bool) -> None:
    """Add --split, --slices, --encoder, --index, and --weights if wanted."""
    parser.add_argument("--split", choices=("test", "validation"), default="test", help=split_help)
    if weights:
        text = WEIGHTS_HELP.format(what="weighted metrics, printed after the plain ones")
        parser.add_argument("--weights", metavar="TYPE=W,..", help=text)
    parser.add_argument(
        "--slices", metavar="NAME,..", help="item attributes and context columns to slice the metrics by (default: all "
        "context columns, and the attributes with at most 50 values)",
    )  # fmt: skip
    add_serving_options(parser)


def _options_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `_add_options` by the names of keywords of `workflow.evaluate`."""
    names = [name for name in ("split", "weights", "encoder", "index") if name in arguments]
    return {name: getattr(arguments, name) for name in names} | {"slices": names_in(arguments.slices)}


def _print(arguments: argparse.Namespace, measure: Callable[..., Any]) -> None:
    """Measure with the options of `_add_options`, and print warnings and the result."""
    with progress_bar(not arguments.json) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # they are printed below
        result = measure(progress=progress, **_options_of(arguments))
    for line in result.warnings:
        print(f"warning: {line}", file=sys.stderr)
    if arguments.json:
        print_json(result.as_dict())
    else:
        print(result)
