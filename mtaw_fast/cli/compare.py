"""`mtaw-fast compare`: two bundles on the same samples, with intervals."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
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
from mtaw_fast.evaluation.paired import HITS, Comparison, Difference
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
        print("\n".join(_lines(comparison)))


def _lines(comparison: Comparison) -> Iterator[str]:
    lists = comparison.lists
    yield comparison.verdict
    yield f"{comparison.samples:,} {comparison.split} samples of {comparison.sessions:,} sessions of {comparison.name}"
    yield ""
    width = max(map(len, comparison.metrics))
    yield f"{'':{width}}  {'A':>8} {'B':>8}  B - A and its 95% interval"
    for name, difference in comparison.metrics.items():
        yield f"{name:{width}}  {difference.first:8.2f} {difference.second:8.2f}  {_text(difference)}"
    yield ""
    yield f"{HITS} by slice (*: differs, even with one interval for all slices together)"
    for name, values in comparison.slices.items():
        yield f"  {name}"
        width = max(map(len, values))
        for value, part in values.items():
            mark = "*" if part.holds else " "
            yield f"  {mark} {value:{width}} {part.samples:>9,}  {_text(part.metrics[HITS])}"
    yield ""
    yield (
        f"lists: {lists.overlap:.1f}% of the items are in both, {lists.same_first:.1f}% have the same first item, "
        f"{lists.same_list:.1f}% are equal"
    )
    yield (
        f"items: {lists.only_first:,} are shown by A alone, {lists.only_second:,} by B alone, on "
        f"{lists.new_share:.1f}% of its positions"
    )
    for example in comparison.examples:
        yield ""
        yield f"session {', '.join(map(str, example['clicks']))}; next {example['target']}"
        for letter, name in (("A", "first"), ("B", "second")):
            rank = example[name]["rank"]
            rank_text = f"rank {rank}" if rank else "not found"
            yield f"  {letter}: {rank_text:9}  {', '.join(map(str, example[name]['items']))} .."


def _text(difference: Difference) -> str:
    if difference.interval is None:
        return f"{difference.difference:+.2f}"
    return f"{difference.difference:+.2f}  [{difference.interval[0]:+.2f}, {difference.interval[1]:+.2f}]"
