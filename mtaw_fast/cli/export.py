"""`mtaw-fast export`: add to a bundle what serving can use besides the model: an index, ONNX graphs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.format import VARIANTS
from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import UsageError


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "export",
        run,
        "Add ONNX graphs of the model, or an approximate index for a large catalog, to a bundle, also to a live one.",
        "mtaw-fast export shop.bundle --onnx\n  mtaw-fast export shop.bundle --index auto --dataset shop.dataset",
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
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="add the graphs encoder.onnx and recommender.onnx, after holding them against the eager model; they hold "
        "the model's neural part alone, without a session memory",
    )
    parser.add_argument(
        "--variants",
        metavar="LIST",
        help=f"which graphs --onnx makes, by commas (default: {','.join(VARIANTS)}), or none (take them away)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without progress lines")


def run(arguments: argparse.Namespace) -> None:
    """Export what was asked for."""
    if arguments.index is None and not arguments.onnx:
        raise UsageError("nothing to export; name it: --onnx, or --index auto")
    if arguments.variants is not None and not arguments.onnx:
        raise UsageError("--variants names graphs of --onnx; give that too")
    told: dict[str, Any] = {}
    lines: list[str] = []
    if arguments.onnx:
        _export_onnx(arguments, told, lines)
    if arguments.index is not None:
        _export_index(arguments, told, lines)
    if arguments.json:
        print_json(told)
    else:
        print("\n".join(lines))


def _export_onnx(arguments: argparse.Namespace, told: dict[str, Any], lines: list[str]) -> None:
    from mtaw_fast.export.onnx_model import export_onnx

    chosen = list(VARIANTS) if arguments.variants is None else arguments.variants.split(",")
    graphs = export_onnx(
        arguments.bundle,
        [] if chosen == ["none"] else [name.strip() for name in chosen],
        seed=arguments.seed,
        say=_silent if arguments.json else _say,
    )
    told["onnx"] = graphs.entry
    lines += graphs.lines()


def _export_index(arguments: argparse.Namespace, told: dict[str, Any], lines: list[str]) -> None:
    from mtaw_fast.export.index import export_index

    exported = export_index(
        arguments.bundle,
        arguments.index,
        dataset=None if arguments.dataset is None else Dataset.load(arguments.dataset),
        recall=arguments.recall,
        seed=arguments.seed,
        say=_silent if arguments.json else _say,
    )
    told |= {"index": exported.entry, "why": exported.why}
    lines.append(f"index: {exported.why}")


def _say(line: str) -> None:
    print(f"{line} ..", file=sys.stderr, flush=True)


def _silent(_: str) -> None:
    return
