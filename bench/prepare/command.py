"""Prepare a click log as a data set: rows a second and the peak memory of the process.

The log is a hard case: text ids, sessions interleaved in time, one CSV. A new process reads and saves it, so the peak
contains nothing else.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.harness.peak_memory import peak_memory
from bench.harness.report import Line, Report, bench_parser, command, parse
from mtaw_fast.errors import MtawError, UsageError, require

_LIMIT_BYTES = 2_000_000_000
_LIMIT_ROWS = 10_000_000
_CHUNK_ROWS = 1_000_000
_MEAN_LENGTH = 5
_CATALOG = 100_000


def write_log(path: Path, rows: int, seed: int = 0) -> int:
    """Write a CSV of `rows` clicks in time order over 90 days; return its number of sessions.

    Session lengths are geometric (mean 5), items follow a power law over 100,000, ids are texts. A million rows
    share a stretch of the period, in which their sessions start at random, so that they interleave.
    """
    pl = require("polars", "train")
    rng = np.random.default_rng(seed)
    sessions = 0
    n_chunks = math.ceil(rows / _CHUNK_ROWS)
    period_ms = 90 * 86_400_000 / n_chunks
    with path.open("wb") as stream:
        stream.write(b"session_id,item_id,timestamp\n")
        for chunk in range(n_chunks):
            count = min(_CHUNK_ROWS, rows - chunk * _CHUNK_ROWS)
            lengths = rng.geometric(1 / _MEAN_LENGTH, count)
            lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), count)) + 1]
            owner = np.repeat(np.arange(len(lengths)), lengths)[:count]
            position = np.arange(count) - np.searchsorted(owner, owner)
            starts = 1_700_000_000_000 + (chunk + rng.random(len(lengths))) * period_ms
            stamps = (starts[owner] + position * 30_000).astype(np.int64)
            order = np.argsort(stamps, kind="stable")
            numbers = pl.DataFrame(
                {
                    "session": (owner + sessions)[order].astype(np.uint64),
                    "item": np.minimum(rng.zipf(1.2, count), _CATALOG),
                    "timestamp": stamps[order],
                }
            )
            texts = numbers.select(
                # An odd factor modulo 2^64 is a bijection: distinct sessions stay distinct.
                (pl.col("session") * pl.lit(0x9E3779B97F4A7C15, pl.UInt64)).cast(pl.String).str.zfill(20),
                "sku-" + pl.col("item").cast(pl.String),
                "timestamp",
            )
            texts.write_csv(stream, include_header=False)
            sessions += int(owner[-1]) + 1
    return sessions


def prepare(log: Path, folder: Path, outcome: Path) -> None:
    """Read the log, save the data set, and write seconds and counts to `outcome`. Its peak memory is measured."""
    from mtaw_fast.data.readers import read

    begin = time.perf_counter()
    dataset = read("clicks", log)
    dataset.save(folder)
    facts = {
        "seconds": time.perf_counter() - begin,
        "rows": dataset.preparation["rows"],
        "sessions": dataset.preparation["sessions"],
        "train_sessions": len(dataset.train),
        "test_samples": len(dataset.test),
    }
    outcome.write_text(json.dumps(facts))


def pure_read(path: Path) -> float:
    """Return the seconds to read the file's bytes from the page cache and do nothing else."""
    block = bytearray(1 << 20)
    begin = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        while stream.readinto(block):
            pass
    return time.perf_counter() - begin


def measure(rows: int, report: Report) -> bool:
    """Measure and add the lines; return False if the peak is over the limit for this many rows."""
    with tempfile.TemporaryDirectory(prefix="mtaw-prepare-") as name:
        folder = Path(name)
        log, outcome = folder / "log.csv", folder / "outcome.json"
        sessions = write_log(log, rows)
        size = log.stat().st_size
        floor = pure_read(log)
        memory = peak_memory(prepare, log, folder / "dataset", outcome)
        facts = json.loads(outcome.read_text())
    if (facts["rows"], facts["sessions"]) != (rows, sessions):
        raise MtawError(
            f"prepare found {facts['rows']} rows in {facts['sessions']} sessions, not {rows} in {sessions}; "
            "no figure is reported"
        )
    params = {"rows": rows, "csv_mb": round(size / 1e6)}
    description = f"pure read of the CSV's bytes, {size / floor / 1e9:.1f} GB/s"
    for metric, value, limit in (
        ("prepare_s", facts["seconds"], (floor, description)),
        ("rows_per_s", rows / facts["seconds"], None),
        ("peak_mb", memory.peak / 1e6, None),
        ("added_mb", memory.added / 1e6, None),
    ):
        report.lines.append(Line.of_value("prepare", "clicks", params, metric, value, floor=limit))
    return rows > _LIMIT_ROWS or memory.peak < _LIMIT_BYTES


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return 1 if up to 10 million rows took 2 GB or more."""
    parser = bench_parser("prepare", __doc__ or "")
    parser.add_argument("--rows", type=int, help="rows of the generated log (default 10000000; --quick: 1000000)")
    options = parse(parser, argv)
    rows = options.rows if options.rows is not None else (1_000_000 if options.quick else _LIMIT_ROWS)
    if rows < 10_000:
        raise UsageError(f"--rows {rows}: fewer than 10000 rows leave nothing after the filters; raise it")
    report = Report("prepare", options.quick)
    within = measure(rows, report)
    code = report.finish(options.json)
    if not within:
        print(f"error: the peak is over {_LIMIT_BYTES / 1e9:.0f} GB for {rows} rows", file=sys.stderr)
        return 1
    return code
