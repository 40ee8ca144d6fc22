"""The speed of `mtaw-fast score`: a block of a Parquet file, read, ranked and written, against the bare batch engine.

The engine is `Recommender.recommend_batch` over the same sessions in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.report import Report, bench_parser, command, parse
from mtaw_fast.errors import UsageError, require
from mtaw_fast.recommender import Recommender
from mtaw_fast.scoring.plan import Plan as Scoring
from mtaw_fast.scoring.plan import ScoringOptions, sources_of
from mtaw_fast.scoring.scorer import BATCH_ROWS, Scorer

K = 20
_LONGEST = 20  # clicks


def sessions_of(recommender: Recommender, count: int) -> list[list[Any]]:
    """Return sessions of external ids from the bundle's memory, each cut to its last 20 clicks.

    Raises UsageError if the bundle has no memory.
    """
    memory = recommender.bundle.model.memory
    if memory is None:
        raise UsageError("the bundle has no session memory to take sessions from; bench one of the preset 'full'")
    past, ids = memory.sessions, recommender.ids
    return [ids.external(past[row % len(past)][-_LONGEST:]) for row in range(count)]


def write_sessions(path: Path, sessions: Sequence[Sequence[Any]]) -> None:
    """Write sessions as `mtaw-fast score` reads them."""
    pa, parquet = require("pyarrow", "bench"), require("pyarrow.parquet", "bench")
    names = [f"session-{row}" for row in range(len(sessions))]
    parquet.write_table(pa.table({"session_id": names, "items": pa.array(sessions)}), path)


def block_case(folder: Path, rows: int, work: Path, plan: Plan) -> Case:
    """Compare one thread that reads, scores and writes a block of `rows` sessions with `recommend_batch`."""
    options = ScoringOptions(k=K, at=1 if Recommender.load(folder).bundle.model.trends is not None else None)
    scorer = Scorer(folder, options)
    sessions = sessions_of(scorer.recommender, rows)
    source = work / "block.parquet"
    write_sessions(source, sessions)
    (block,) = Scoring(scorer.version, scorer.isa, options, sources_of([source]), rows).blocks()
    output = work / "block"
    output.mkdir()

    def bare(_: int) -> list[Any]:
        answers = []
        for first in range(0, rows, BATCH_ROWS):
            batch = sessions[first : first + BATCH_ROWS]
            answers += scorer.recommender.recommend_batch(batch, K, at=options.at)
        return answers

    def wrong(contender: Contender) -> str | None:
        if contender.name != "score":
            return None
        contender.run(0)
        table = require("pyarrow.parquet", "bench").read_table(output / block.part)
        expected = bare(0)
        if table["items"].to_pylist() != [answer.items for answer in expected]:
            return "its items differ from the engine's"
        scores = table["scores"].combine_chunks().flatten().to_numpy()
        same = np.array_equal(scores, np.concatenate([answer.scores for answer in expected]))
        return None if same else "its scores differ from the engine's"

    ours = Contender("score", lambda _: scorer.write(block, output))
    params = {"sessions": rows, "n_items": scorer.recommender.n_items, "k": K}
    return Case("block", params, "block_s", ours, [Contender("recommend_batch", bare)], wrong, plan)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 if an answer is wrong."""
    parser = bench_parser("scoring", __doc__ or "")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="of the preset 'full'")
    parser.add_argument("--sessions", type=int, help="in a block (default 16384; --quick: 2048)")
    options = parse(parser, argv)
    rows = options.sessions or (2048 if options.quick else 16_384)
    plan = Plan(rounds=15, burst=1, settle=0, warmup=1, seconds=20.0 if options.quick else 120.0, min_rounds=3)
    report = Report("scoring", options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-scoring-") as name:
        report.run(block_case(options.bundle, rows, Path(name), plan))
    return report.finish(options.json)
