"""`mtaw-fast export`: add an approximate index or ONNX graphs to a bundle, or write a small one for a web page."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtaw_fast.bundle.format import VARIANTS
from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataWarning, UsageError


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "export",
        run,
        "mtaw-fast export shop.bundle --onnx --dataset shop.dataset\n"
        "  mtaw-fast export shop.bundle --index auto --dataset shop.dataset\n"
        "  mtaw-fast export shop.bundle --page shop-page.bundle",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument(
        "--dataset", type=Path, metavar="DATASET",
        help="measure the recall of the index on its validation sessions (default: sessions made from the catalog), "
        "and P@20 and MRR@20 of the graphs, of the page's bundle and of the Recommender on its test split",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of the index and of the sessions it is measured on")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without progress lines")
    index = parser.add_argument_group("approximate index")
    index.add_argument(
        "--index", metavar="KIND",
        help="auto (no index if exact search is as fast), ivfpq, hnsw, or none (remove the bundle's index)",
    )  # fmt: skip
    index.add_argument("--recall", type=float, default=0.99, help="lowest recall@20 to accept (default: 0.99)")
    graphs = parser.add_argument_group("ONNX graphs")
    graphs.add_argument(
        "--onnx", action="store_true",
        help="add recommender.onnx, which ranks as the Recommender does, and encoder.onnx; both are first compared "
        "with the Recommender and the PyTorch model",
    )  # fmt: skip
    graphs.add_argument("--part", choices=("encoder",), help="export encoder.onnx only")
    graphs.add_argument(
        "--variants", metavar="LIST",
        help=f"comma-separated variants (default: {','.join(VARIANTS)}), or none (remove the graphs)",
    )  # fmt: skip
    graphs.add_argument(
        "--triton-repository", type=Path, metavar="DIR",
        help="also write the graph to DIR as a model for NVIDIA Triton Inference Server",
    )  # fmt: skip
    page = parser.add_argument_group("bundle for a web page")
    page.add_argument(
        "--page", type=Path, metavar="FOLDER",
        help="write a bundle for a web page to FOLDER, without sessions, private columns, rules and metrics, and with "
        "rounded counts; prints what it publishes",
    )  # fmt: skip
    page.add_argument("--megabytes", type=float, metavar="MB", help="the most that it may take (default: 20)")
    page.add_argument(
        "--trend-neighbors", type=int, metavar="N",
        help="how many pairs of an item its trends keep (default: all if they fit, else at most 8)",
    )  # fmt: skip
    page.add_argument(
        "--min-sessions", type=int, metavar="N",
        help="publish only pairs of items that at least N sessions have (default: 1; 2 hides what a single visitor "
        "combined, and ranks worse)",
    )  # fmt: skip
    page.add_argument("--overwrite", action="store_true", help="replace the bundle in FOLDER")


def run(arguments: argparse.Namespace) -> None:
    """Add ONNX graphs of the model, or an approximate index for a large catalog, to a bundle. The bundle may be served
    meanwhile. Or write a bundle that is small enough for a web page."""
    if arguments.index is None and not arguments.onnx and arguments.page is None:
        raise UsageError("nothing to export; give --onnx, --index auto or --page FOLDER")
    for option, names in (("page FOLDER", ("overwrite", "megabytes", "trend_neighbors", "min_sessions")),
                          ("onnx", ("variants", "part", "triton_repository"))):  # fmt: skip
        for name in names:
            if getattr(arguments, name) not in (None, False) and not getattr(arguments, option.split()[0]):
                raise UsageError(f"--{name.replace('_', '-')} needs --{option}; add it")
    if arguments.megabytes is not None and not 0 < arguments.megabytes < math.inf:
        raise UsageError(f"--megabytes {arguments.megabytes} must be positive")
    for name in ("trend_neighbors", "min_sessions"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value} must be at least 1")
    if arguments.part is not None and arguments.triton_repository is not None:
        raise UsageError("--triton-repository needs the whole graph; leave --part out")
    result: dict[str, Any] = {}
    lines: list[str] = []
    dataset = None if arguments.dataset is None else Dataset.load(arguments.dataset)
    if arguments.onnx:
        _export_onnx(arguments, dataset, result, lines)
    if arguments.index is not None:
        _export_index(arguments, dataset, result, lines)
    if arguments.page is not None:
        _export_page(arguments, dataset, result, lines)
    if arguments.json:
        print_json(result)
    else:
        print("\n".join(lines))


def _export_onnx(
    arguments: argparse.Namespace, dataset: Dataset | None, result: dict[str, Any], lines: list[str]
) -> None:
    from mtaw_fast.export.onnx_model import export_onnx

    names = list(VARIANTS) if arguments.variants is None else [name.strip() for name in arguments.variants.split(",")]
    variants = [] if names == ["none"] else names
    if arguments.triton_repository is not None and "float32" not in variants:
        raise UsageError("--triton-repository needs the float32 graph; add float32 to --variants, or leave it out")
    graphs = export_onnx(
        arguments.bundle,
        variants,
        part=arguments.part or "whole",
        dataset=dataset,
        seed=arguments.seed,
        say=_say(arguments),
    )
    result |= graphs.as_dict()
    lines += graphs.lines()
    if arguments.triton_repository is not None:
        from mtaw_fast.export.triton_repository import write_repository

        result["triton_repository"] = folder = str(write_repository(arguments.bundle, arguments.triton_repository))
        lines.append(
            f"Triton Inference Server: {folder}; start it with --model-repository {arguments.triton_repository}"
        )


def _export_index(
    arguments: argparse.Namespace, dataset: Dataset | None, result: dict[str, Any], lines: list[str]
) -> None:
    from mtaw_fast.export.index import export_index

    exported = export_index(
        arguments.bundle,
        arguments.index,
        dataset=dataset,
        recall=arguments.recall,
        seed=arguments.seed,
        say=_say(arguments),
    )
    result |= {"index": exported.entry, "why": exported.why}
    lines.append(f"index: {exported.why}")


def _export_page(
    arguments: argparse.Namespace, dataset: Dataset | None, result: dict[str, Any], lines: list[str]
) -> None:
    from mtaw_fast.export.page import MEGABYTES, export_page
    from mtaw_fast.workflow import evaluate

    megabytes = MEGABYTES if arguments.megabytes is None else arguments.megabytes
    page = export_page(
        arguments.bundle, arguments.page, megabytes=megabytes, trend_neighbors=arguments.trend_neighbors,
        min_sessions=arguments.min_sessions or 1, overwrite=arguments.overwrite,
    )  # fmt: skip
    result["page"] = page.as_dict()
    lines += page.lines()
    if dataset is None:
        return
    for name, folder in (("whole", arguments.bundle), ("page", arguments.page)):
        with warnings.catch_warnings():
            if name == "page":
                warnings.simplefilter("ignore", DataWarning)  # its sessions are not all of the training's
            metrics = evaluate(folder, dataset).metrics
        result["page"][name] = {metric: metrics[metric] for metric in ("P@20", "MRR@20")}
        lines.append(f"{name}: P@20 {metrics['P@20']:.2f}, MRR@20 {metrics['MRR@20']:.2f}")


def _say(arguments: argparse.Namespace) -> Callable[[str], None]:
    """Return a function that prints a line of progress, or nothing with --json."""
    if arguments.json:
        return lambda _: None
    return lambda line: print(f"{line} ..", file=sys.stderr, flush=True)
