"""`mtaw-fast score`: recommendations for every session of a Parquet file, on this host or on Ray."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import (
    Bar,
    add_command,
    add_ranking_options,
    add_serving_options,
    print_json,
    progress_bar,
    rules_in,
    thread_count,
    typed_ids,
)
from mtaw_fast.data.moments import moment_of
from mtaw_fast.data.readers.sources import part_files
from mtaw_fast.errors import DataError, UsageError, require
from mtaw_fast.integrations.cluster import HERE, find_ray
from mtaw_fast.integrations.ray_scoring import score_on_ray
from mtaw_fast.ranking.options import checked_k
from mtaw_fast.scoring.plan import BLOCK_ROWS, Plan, ScoringOptions, kept_plan, output_folder, sources_of
from mtaw_fast.scoring.scorer import Scorer, moment_for
from mtaw_fast.system.cpus import usable_cpus


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    example = "mtaw-fast score shop.bundle sessions.parquet scores -k 20 --exclude-seen"
    parser = add_command(commands, "score", run, example)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument(
        "sessions", type=Path, metavar="SESSIONS",
        help="Parquet with columns session_id and items (lists, oldest click first), and those of the bundle's context "
        "if there are any, and types (lists, the type of each click) if its ranker reads these: a file, a folder or a "
        "pattern",
    )  # fmt: skip
    parser.add_argument(
        "out", type=Path, metavar="OUT",
        help="folder to write: part-*.parquet in the order of SESSIONS with session_id, items, scores, fallback (no "
        "click is known, so the items are popular ones) and unknown (how many clicks the bundle does not know), and "
        "_SUCCESS at the end",
    )  # fmt: skip
    add_ranking_options(parser, "a session's", "the start of the run")
    parser.add_argument(
        "--block-rows", type=int, default=BLOCK_ROWS, metavar="N",
        help=f"most rows of a part; a killed run loses at most the parts under way (default: {BLOCK_ROWS})",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=thread_count, metavar="N|auto",
        help="ranking threads; the results do not depend on them (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--ray", nargs="?", const=HERE, metavar="ADDRESS",
        help="score on a Ray cluster: HOST:PORT, ray://HOST:PORT or auto; without ADDRESS, start Ray on this host. "
        "Every host of the cluster must see the same paths",
    )  # fmt: skip
    parser.add_argument(
        "--actors", type=int, metavar="N", help="with --ray: number of ranking processes (default: one per processor)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, without a progress bar")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Recommend items for every session of a Parquet file. Run the same command again to continue a killed run."""
    if arguments.actors is not None and (arguments.ray is None or arguments.actors < 1):
        raise UsageError("--actors needs --ray and must be at least 1")
    if arguments.ray is not None and arguments.threads is not None:
        raise UsageError("--threads does not work with --ray, whose actors have one thread each; use --actors")
    if arguments.block_rows < 1:
        raise UsageError(f"--block-rows must be at least 1, not {arguments.block_rows}")
    require("pyarrow", "score")
    if arguments.ray is not None:
        find_ray(arguments.ray)
    scorer, plan = planned(arguments)
    with output_folder(arguments.out, plan) as blocks, progress_bar(not arguments.json) as bar:
        began, todo = time.perf_counter(), sum(block.rows for block in blocks)
        advance = _advancing(bar, plan.rows - todo, plan.rows)
        if arguments.ray is None:
            for block in blocks:
                scorer.write(block, arguments.out, advance)
        else:
            del scorer  # the actors have their own
            score_on_ray(arguments.bundle, plan, blocks, arguments.out, arguments.ray, arguments.actors, advance)
        seconds = time.perf_counter() - began
    if arguments.json:
        print_json({"out": str(arguments.out), "sessions": plan.rows, "scored": todo, "parts": len(plan.blocks()),
                    "seconds": round(seconds, 3)})  # fmt: skip
        return
    skipped = f", {plan.rows - todo:,} were already there" if todo < plan.rows else ""
    print(f"scored {todo:,} sessions in {seconds:.1f} s ({todo / max(seconds, 1e-9):,.0f} per second){skipped}")
    parts = len(plan.blocks())
    print(f"wrote {arguments.out}: {plan.rows:,} sessions in {parts} part{'' if parts == 1 else 's'}")


def planned(arguments: argparse.Namespace) -> tuple[Scorer, Plan]:
    """Load the bundle and return it with the plan that the arguments ask for."""
    parts = part_files(arguments.sessions)
    foreign = next((part for part in parts if part.kind != "parquet"), None)
    if foreign is not None:
        raise DataError(f"{foreign} does not end in .parquet; write the sessions as Parquet")
    files = [part.source for part in parts]
    threads = 1 if arguments.ray is not None else arguments.threads or usable_cpus()
    options = ScoringOptions(
        k=arguments.k, exclude_seen=arguments.exclude_seen, encoder=arguments.encoder, index=arguments.index
    )
    scorer = Scorer(arguments.bundle, options, threads)
    checked_k(arguments.k, scorer.recommender.n_items)
    for path in files:
        scorer.check_kind(path)
    old_plan = kept_plan(arguments.out)
    # A run that is continued keeps the time that it began with.
    now = (old_plan or {}).get("options", {}).get("at") or time.time_ns() // 1_000_000
    scorer.options = dataclasses.replace(
        options,
        exclude=tuple(typed_ids(arguments.exclude, scorer.recommender.bundle.ids)),
        rules=rules_in(arguments.rules),
        context=scorer.context_of(files),
        types=scorer.reads_types(files),
        at=moment_for(scorer.recommender, moment_of("--at", arguments.at), now),
    )
    # Refuse rules and a time that do not fit the bundle before the plan is kept: a folder takes no other plan.
    scorer.recommender.recommend([], 1, rules=scorer.options.rules, at=scorer.options.at)
    plan = Plan(scorer.version, scorer.isa, scorer.options, sources_of(files), arguments.block_rows)
    return scorer, plan


def _advancing(bar: Bar | None, done: int, total: int) -> Callable[[int], None]:
    """Return a callback that adds the rows it gets to the bar."""

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        if bar is not None:
            bar("score", done, total)

    advance(0)
    return advance
