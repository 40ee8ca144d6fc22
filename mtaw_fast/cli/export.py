"""`mtaw-fast export`: add to a bundle what serving can use besides the model."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.dataset import Dataset
from mtaw_fast.errors import UsageError


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "export",
        run,
        "Add an approximate index for a large catalog to a bundle, also while it is being served.",
        "mtaw-fast export shop.bundle --index auto --dataset shop.dataset",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "--index",
        metavar="KIND",
        help="auto (none where an exact scan is as fast), ivfpq, hnsw, or none (take the bundle's index away)",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="DATASET",
        help="measure recall on its validation sessions (default: sessions made from the catalog)",
    )
    parser.add_argument("--recall", type=float, default=0.99, help="least recall@20 to accept (default: 0.99)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without progress lines")


def run(arguments: argparse.Namespace) -> None:
    """Export what was asked for."""
    if arguments.index is None:
        raise UsageError("nothing to export; name it: --index auto")
    from mtaw_fast.export.index import export_index

    exported = export_index(
        arguments.bundle,
        arguments.index,
        dataset=None if arguments.dataset is None else Dataset.load(arguments.dataset),
        recall=arguments.recall,
        seed=arguments.seed,
        say=_silent if arguments.json else _say,
    )
    if arguments.json:
        print_json({"index": exported.entry, "why": exported.why})
    else:
        print(f"index: {exported.why}")


def _say(line: str) -> None:
    print(f"{line} ..", file=sys.stderr, flush=True)


def _silent(_: str) -> None:
    return
