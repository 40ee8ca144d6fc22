"""`mtaw-fast score`: the top-K of every session of a Parquet file, on this machine or on Ray."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, add_serving_options, moment_of, print_json, thread_count, typed_ids
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.errors import DataError, UsageError, require
from mtaw_fast.integrations.cluster import HERE, find_ray
from mtaw_fast.integrations.ray_scoring import score_on_ray
from mtaw_fast.ranking.options import checked_k
from mtaw_fast.scoring.plan import BLOCK_ROWS, Block, Plan, ScoringOptions, kept_plan, output_folder, sources_of
from mtaw_fast.scoring.scorer import Scorer, moment_for
from mtaw_fast.system.cpus import usable_cpus


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "score",
        run,
        "Rank the catalog for every session of a Parquet file; killed at any point, the same command goes on.",
        "mtaw-fast score shop.bundle sessions.parquet scores -k 20 --exclude-seen",
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "sessions", type=Path, metavar="SESSIONS",
        help="Parquet with columns session_id and items (lists, oldest click first): a file, a folder or a pattern",
    )  # fmt: skip
    parser.add_argument(
        "out", type=Path, metavar="OUT",
        help="folder to write: part-*.parquet with session_id, items, scores in the order of SESSIONS; _SUCCESS last",
    )  # fmt: skip
    parser.add_argument("-k", type=int, default=20, help="how many items (default: 20)")
    parser.add_argument("--exclude", action="append", default=[], metavar="ITEM", help="never list this item")
    parser.add_argument("--exclude-seen", action="store_true", help="leave each session's own items out")
    parser.add_argument(
        "--at", metavar="TIME",
        help="the moment to rank for, ISO-8601 or Unix milliseconds, where the bundle knows of time (default: when "
        "the work begins)",
    )  # fmt: skip
    parser.add_argument(
        "--block-rows", type=int, default=BLOCK_ROWS, metavar="N",
        help=f"most rows of a part, which is what a kill can cost (default: {BLOCK_ROWS})",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=thread_count, default=None, metavar="N|auto",
        help="that rank; they change the time, not the bits (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--ray", nargs="?", const=HERE, metavar="ADDRESS",
        help="score on a Ray cluster: HOST:PORT, ray://HOST:PORT or auto; without an address a Ray is started here. "
        "Its machines must see the paths",
    )  # fmt: skip
    parser.add_argument(
        "--actors", type=int, metavar="N", help="processes that rank with --ray (default: one a processor)"
    )
    parser.add_argument("--json", action="store_true")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Plan, score what is not there yet, tell how fast."""
    if arguments.actors is not None and (arguments.ray is None or arguments.actors < 1):
        raise UsageError("--actors goes with --ray and is at least 1")
    if arguments.ray is not None and arguments.threads is not None:
        raise UsageError(
            "--threads goes without --ray; an actor ranks with one thread, --actors says how many there are"
        )
    if arguments.block_rows < 1:
        raise UsageError(f"--block-rows must be at least 1, not {arguments.block_rows}")
    require("pyarrow", "score")
    if arguments.ray is not None:
        find_ray(arguments.ray)
    scorer, plan = planned(arguments)
    with output_folder(arguments.out, plan) as blocks, _progress(plan, blocks, not arguments.json) as advance:
        began, todo = time.perf_counter(), sum(block.rows for block in blocks)
        if arguments.ray is None:
            for block in blocks:
                scorer.write(block, arguments.out, advance)
        else:
            del scorer  # the actors have their own
            score_on_ray(
                arguments.bundle, plan, blocks, arguments.out, arguments.ray, arguments.actors,
                lambda done: advance(done.rows),
            )  # fmt: skip
        seconds = time.perf_counter() - began
    told = {"out": str(arguments.out), "sessions": plan.rows, "scored": todo, "parts": len(plan.blocks()),
            "seconds": round(seconds, 3)}  # fmt: skip
    if arguments.json:
        print_json(told)
        return
    kept = f", {plan.rows - todo:,} were there" if todo < plan.rows else ""
    print(f"scored {todo:,} sessions in {seconds:.1f} s ({todo / max(seconds, 1e-9):,.0f} a second){kept}")
    print(f"wrote {arguments.out}: {plan.rows:,} sessions in {len(plan.blocks())} parts")


def planned(arguments: argparse.Namespace) -> tuple[Scorer, Plan]:
    """The loaded bundle and the plan that the arguments ask for."""
    parts = part_files(arguments.sessions)
    foreign = next((part for part in parts if part.kind != "parquet"), None)
    if foreign is not None:
        raise DataError(f"{foreign} is no Parquet file by its name; sessions come as .parquet")
    files = [part.source for part in parts]
    threads = 1 if arguments.ray is not None else arguments.threads or usable_cpus()
    asked = ScoringOptions(
        k=arguments.k, exclude_seen=arguments.exclude_seen, encoder=arguments.encoder, index=arguments.index
    )
    scorer = Scorer(arguments.bundle, asked, threads)
    checked_k(arguments.k, scorer.recommender.n_items)
    for path in files:
        scorer.check_kind(path)
    kept = kept_plan(arguments.out)
    # A run that goes on ranks for the moment that it was begun at.
    now = (kept or {}).get("options", {}).get("at") or time.time_ns() // 1_000_000
    scorer.options = dataclasses.replace(
        asked,
        exclude=tuple(typed_ids(arguments.exclude, scorer.recommender.bundle.ids)),
        at=moment_for(scorer.recommender, moment_of("--at", arguments.at), now),
    )
    plan = Plan(scorer.version, scorer.isa, scorer.options, sources_of(files), arguments.block_rows)
    return scorer, plan


@contextlib.contextmanager
def _progress(plan: Plan, blocks: list[Block], shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar over the rows on standard error, where rich is there."""
    try:
        if not shown:
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield lambda _: None
        return
    there = plan.rows - sum(block.rows for block in blocks)
    columns = [TextColumn("score"), BarColumn(), TextColumn("{task.completed:,}/{task.total:,}"), TimeRemainingColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("score", total=plan.rows, completed=there)
        yield lambda rows: bar.advance(task, rows)
