"""Bundles for a page: P@20 on the validation sessions against the bytes, and against the pairs that a page builds.

python -m bench.quality.page_curve BUNDLE DATASET [--megabytes MB,..] [--neighbors N,..]
    [--trend-neighbors N,..] [--out FILE]

BUNDLE was trained on DATASET with --no-refit. Each bundle of `mtaw_fast.export.page` is a line of --out, next to the
whole one; lines of the same data set are replaced.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.report import command, whole_numbers
from bench.quality.records import read_points, write_points
from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import DataWarning
from mtaw_fast.export.page import MAX_NEIGHBORS, MEGABYTES, export_page
from mtaw_fast.workflow import evaluate

OUT = Path("docs/results/page-bundle.jsonl")
_MEGABYTES = f"9.5,10,11,12,{MEGABYTES:g}"
_NEIGHBORS = "16,32,64,256"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Measure the bundles; return the exit status."""
    parser = argparse.ArgumentParser("python -m bench.quality.page_curve", description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("dataset", type=Path, metavar="DATASET")
    parser.add_argument("--megabytes", default=_MEGABYTES, metavar="MB,..", help=f"limits (default: {_MEGABYTES})")
    parser.add_argument(
        "--neighbors", default=_NEIGHBORS, metavar="N,..",
        help=f"pairs of an item, of the bundle with the last limit (default: {_NEIGHBORS})",
    )  # fmt: skip
    parser.add_argument(
        "--trend-neighbors", default="", metavar="N,..", help="pairs of an item in trends, instead (default: none)"
    )
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE", help=f"(default: {OUT})")
    options = parser.parse_args(argv)
    limits = [float(text) for text in options.megabytes.split(",")]
    neighbors = whole_numbers("--neighbors", options.neighbors) if options.neighbors else []
    bundle = Bundle.load(options.bundle)
    name = str(bundle.dataset.get("name"))
    size = sum(entry["bytes"] for entry in bundle.manifest["files"].values())
    n_sessions = len(bundle.model.sessions)
    lines = [_line(name, "whole", size, n_sessions, None, _quality(options.bundle, options.dataset))]
    trends = whole_numbers("--trend-neighbors", options.trend_neighbors) if options.trend_neighbors else []
    points: list[tuple[float, int, int | None]] = [(limit, MAX_NEIGHBORS, None) for limit in limits]
    points += [(limits[-1], count, None) for count in neighbors]
    points += [(limits[-1], MAX_NEIGHBORS, count) for count in trends]
    with tempfile.TemporaryDirectory() as work:
        for limit, count, pairs in points:
            page = export_page(
                bundle, Path(work) / "page", megabytes=limit, max_neighbors=count, trend_neighbors=pairs, overwrite=True
            )
            quality = _quality(page.folder, options.dataset)
            lines.append(_line(name, "page", page.n_bytes, page.n_sessions, count, quality, page.trend_neighbors))
    write_points(options.out, [line for line in read_points(options.out) if line["dataset"] != name] + lines)
    return 0


def _quality(bundle: Path, dataset: Path) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # a page's sessions are not all of the training's
        metrics = evaluate(bundle, dataset, split="validation").metrics
    return {name: round(float(metrics[name]), 3) for name in ("P@20", "MRR@20")}


def _line(
    dataset: str,
    form: str,
    size: int,
    sessions: int,
    neighbors: int | None,
    quality: dict[str, float],
    trend_neighbors: int | None = None,
) -> dict[str, Any]:
    line = {"dataset": dataset, "form": form, "bytes": size, "sessions": sessions, "neighbors": neighbors, **quality}
    line |= {} if trend_neighbors is None else {"trend_neighbors": trend_neighbors}
    print(line, file=sys.stderr, flush=True)
    return line


if __name__ == "__main__":
    sys.exit(main())
