"""How fast `mtaw-fast score` is: a block of a Parquet file, read, ranked and written, against the bare batch engine.

The engine is `Recommender.recommend_batch` over the same sessions, which lie in memory as lists. With `--ray` the same
sessions are scored by one actor and by two, and compared by rows a second of processor time: of two actors on two busy
processors each has less of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.report import Report, Row, bench_parser, exit_code_of, parse
from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.integrations.ray_scoring import BlockDone, score_on_ray
from mtaw_fast.recommender import Recommender
from mtaw_fast.scoring.output import output_folder
from mtaw_fast.scoring.plan import Plan as Scoring
from mtaw_fast.scoring.plan import ScoringOptions, sources_of
from mtaw_fast.scoring.scorer import BATCH_ROWS, Scorer

K = 20
_LONGEST = 20  # clicks
_BLOCKS = 8
_ROUNDS = 3  # of one actor and two, by turns


def sessions_of(recommender: Recommender, count: int) -> list[list[Any]]:
    """Sessions of external ids: those of the bundle's memory, each cut to its last 20 clicks.

    Raises UsageError where the bundle has no memory.
    """
    memory = recommender.bundle.model.memory
    if memory is None:
        raise UsageError("the bundle has no session memory to take sessions from; bench one of the preset 'full'")
    past, ids = memory.sessions, recommender.ids
    return [ids.external(past[row % len(past)][-_LONGEST:]) for row in range(count)]


def write_sessions(path: Path, sessions: Sequence[Sequence[Any]]) -> None:
    """As `mtaw-fast score` reads them."""
    pa, parquet = require("pyarrow", "bench"), require("pyarrow.parquet", "bench")
    names = [f"session-{row}" for row in range(len(sessions))]
    parquet.write_table(pa.table({"session_id": names, "items": pa.array(sessions)}), path)


def block_case(folder: Path, rows: int, work: Path, plan: Plan) -> Case:
    """One block of `rows` sessions, read, scored and written by one thread, against `recommend_batch`."""
    options = ScoringOptions(k=K, at=1 if Recommender.load(folder).bundle.model.trends is not None else None)
    scorer = Scorer(folder, options)
    sessions = sessions_of(scorer.recommender, rows)
    source = work / "block.parquet"
    write_sessions(source, sessions)
    (block,) = Scoring(scorer.version, scorer.isa, options, sources_of([source]), rows).blocks()
    out = work / "block"
    out.mkdir()

    def bare(_: int) -> list[Any]:
        found = []
        for first in range(0, rows, BATCH_ROWS):
            some = sessions[first : first + BATCH_ROWS]
            found += scorer.recommender.recommend_batch(some, K, at=options.at)
        return found

    def wrong(contender: Contender) -> str | None:
        if contender.name != "score":
            return None
        contender.run(0)
        table = require("pyarrow.parquet", "bench").read_table(out / block.part)
        expected = bare(0)
        if table["items"].to_pylist() != [answer.items for answer in expected]:
            return "its items differ from the engine's"
        scores = table["scores"].combine_chunks().flatten().to_numpy()
        same = np.array_equal(scores, np.concatenate([answer.scores for answer in expected]))
        return None if same else "its scores differ from the engine's"

    ours = Contender("score", lambda _: scorer.write(block, out))
    params = {"sessions": rows, "n_items": scorer.recommender.n_items, "k": K}
    return Case("block", params, "block_s", ours, [Contender("recommend_batch", bare)], wrong, plan)


def actors_rows(folder: Path, rows: int, work: Path, report: Report) -> None:
    """Rows a second of processor time by one actor and by two, by turns; refused where their files differ."""
    options = ScoringOptions(k=K, at=1 if Recommender.load(folder).bundle.model.trends is not None else None)
    scorer = Scorer(folder, options)
    source = work / "actors.parquet"
    write_sessions(source, sessions_of(scorer.recommender, rows))
    scoring = Scoring(scorer.version, scorer.isa, options, sources_of([source]), -(-rows // _BLOCKS))
    speeds: dict[int, list[float]] = {1: [], 2: []}
    files: set[bytes] = set()
    for turn in range(_ROUNDS):
        for actors in speeds:
            out = work / f"actors-{actors}-{turn}"
            done: list[BlockDone] = []
            with output_folder(out, scoring) as blocks:
                score_on_ray(folder, scoring, blocks, out, actors=actors, told=done.append)
            speeds[actors].append(rows / sum(one.processor_seconds for one in done))
            if len({one.place for one in done}) != actors:
                report.notes.append(f"note: {actors} actors were asked for, {len({one.place for one in done})} worked")
            files.add(b"".join((out / block.part).read_bytes() for block in scoring.blocks()))
    if len(files) != 1:
        report.refuse("actors: runs wrote different files")
        return
    one, two = (float(np.median(found)) for found in speeds.values())
    params = {"sessions": rows, "n_items": scorer.recommender.n_items, "k": K}
    for actors, speed, ratio in ((1, one, None), (2, two, two / one)):
        found = np.array(speeds[actors])
        row = Row(
            "scoring", "actors", {**params, "actors": actors}, "sessions_per_cpu_s", speed, float(found.min()),
            float(found.min()), len(found), None if ratio is None else "one actor", ratio, None, None,
        )  # fmt: skip
        report.rows.append(row)
        beside = "" if ratio is None else f", {ratio:.2f} of one actor's"
        report.notes.append(f"{actors} actor(s): {speed:,.0f} sessions a second of processor time{beside}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 1 where an answer is wrong."""
    parser = bench_parser("scoring", __doc__ or "")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="of the preset 'full'")
    parser.add_argument("--sessions", type=int, help="in a block (default 16384; --quick: 2048)")
    parser.add_argument("--ray", action="store_true", help="measure one actor and two on a local Ray as well")
    try:
        options = parse(parser, argv)
        rows = options.sessions or (2048 if options.quick else 16_384)
        plan = Plan(rounds=15, burst=1, settle=0, warmup=1, seconds=20.0 if options.quick else 120.0, min_rounds=3)
        report = Report("scoring")
        with tempfile.TemporaryDirectory(prefix="mtaw-scoring-") as name:
            report.run(block_case(options.bundle, rows, Path(name), plan))
            if options.ray:
                actors_rows(options.bundle, 4 * rows, Path(name), report)
        return report.finish(options.json)
    except MtawError as error:
        return exit_code_of(error)
