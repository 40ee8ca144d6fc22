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
        "mtaw-fast export shop.bundle --onnx --dataset shop.dataset\n"
        "  mtaw-fast export shop.bundle --index auto --dataset shop.dataset",
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
        help="measure an index's recall on its validation sessions (default: sessions made from the catalog), and the "
        "graphs' P@20 and MRR@20 on its test split, beside the Recommender's",
    )
    parser.add_argument("--recall", type=float, default=0.99, help="least recall@20 to accept (default: 0.99)")
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="add the graphs recommender.onnx, which ranks as the Recommender does, and encoder.onnx, after holding "
        "them against it and the eager model",
    )
    parser.add_argument(
        "--part",
        choices=("encoder",),
        help="a part of the graphs of --onnx instead of the whole: encoder.onnx alone",
    )
    parser.add_argument(
        "--variants",
        metavar="LIST",
        help=f"which graphs --onnx makes, by commas (default: {','.join(VARIANTS)}), or none (take them away)",
    )
    parser.add_argument(
        "--triton-repository",
        type=Path,
        metavar="DIR",
        help="write the graph of --onnx to DIR as well, as a model of an NVIDIA Triton Inference Server",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without progress lines")


def run(arguments: argparse.Namespace) -> None:
    """Export what was asked for."""
    if arguments.index is None and not arguments.onnx:
        raise UsageError("nothing to export; name it: --onnx, or --index auto")
    for name in ("variants", "part", "triton_repository"):
        if getattr(arguments, name) is not None and not arguments.onnx:
            raise UsageError(f"--{name.replace('_', '-')} is about the graphs of --onnx; give that too")
    if arguments.part is not None and arguments.triton_repository is not None:
        raise UsageError("--triton-repository takes the whole; leave --part out")
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

    named = list(VARIANTS) if arguments.variants is None else [name.strip() for name in arguments.variants.split(",")]
    variants = [] if named == ["none"] else named
    if arguments.triton_repository is not None and "float32" not in variants:
        raise UsageError("--triton-repository takes the graph in float32; leave --variants out, or name float32 too")
    graphs = export_onnx(
        arguments.bundle,
        variants,
        part=arguments.part or "whole",
        dataset=None if arguments.dataset is None else Dataset.load(arguments.dataset),
        seed=arguments.seed,
        say=_silent if arguments.json else _say,
    )
    told |= graphs.as_dict()
    lines += graphs.lines()
    if arguments.triton_repository is not None:
        from mtaw_fast.export.triton_repository import write_repository

        told["triton_repository"] = written = str(write_repository(arguments.bundle, arguments.triton_repository))
        lines.append(
            f"Triton Inference Server: {written}; start it with --model-repository {arguments.triton_repository}"
        )


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
