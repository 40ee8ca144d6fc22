"""New items: what a start from attributes and a share of the lists give them, and what they cost the others.

python -m bench.quality.new_items [--data DIR] [--work DIR] [--seeds N] [--live] [--out FILE]

Of two logs, a news log (DIR/globo, 2017-10-09 and 10, then three hours) and a shop's (synthetic, its last three days),
some items are held out whole: their clicks leave the training log, and their rows stay in the item table. A training
with that table and its dates (--new-since) serves the test clicks in order of time. New targets are those whose rows
the training says are new, also of items that nobody had clicked. Four ways: these items wait for their first click;
they start with the bundle, as by default; with a share of the lists on top; or somebody names neighbors, the five items
that the test clicks together with each most often, which nobody could know. Each seed holds other items out and trains
with itself. --live: all learn from these clicks.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.harness.machine import machine_class, machine_record
from bench.harness.records import commit
from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.synthetic import ClickLaw, make_world
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.evaluation.metrics import METRICS, gains_of, session_bootstrap
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from mtaw_fast.online.state.content_prior import ContentPrior

DAY, HOUR = 86_400_000, 3_600_000
SHARE, K = 0.05, 20
WAYS = ("wait", "start", "start and share", "neighbors")
_BEGIN, _CUT = 1_507_507_200_000, 1_507_680_000_000  # 2017-10-09 and 11, UTC
# A training of two minutes: what is compared is served by the same bundle.
_SHORT = ("--epochs", "1", "--no-refit", "--set", "ranker_epochs=4", "--set", "ranker_samples=10000")
_HITS, _MRR = METRICS.index("P@20"), METRICS.index("MRR@20")


@dataclass(frozen=True)
class Log:
    """A log and a table, cut for the measurement. test: session, item, time (Unix ms) in order of time. held: ids."""

    name: str
    train: pl.DataFrame
    test: pl.DataFrame
    table: pl.DataFrame
    held: frozenset[Any]


def news_log(folder: Path, seed: int = 0) -> Log:
    """A fifth of the articles is held out. The table has those of before the test."""
    clicks = pl.read_parquet(folder / "clicks.parquet").select("session", "item", time="time_ms")
    articles = pl.read_parquet(folder / "articles.parquet").filter(pl.col("created_ms") < _CUT)
    rng = np.random.default_rng(seed)
    ids = articles["item"].to_numpy()
    held = frozenset(ids[rng.random(len(ids)) < 0.2].tolist())
    table = articles.select(
        pl.col("item").alias("id"), pl.col("category").cast(pl.String), "words",
        pl.from_epoch("created_ms", time_unit="ms").dt.replace_time_zone("UTC").alias("created"),
    )  # fmt: skip
    return _cut("news", clicks, table, held, _BEGIN, _CUT, _CUT + 3 * HOUR)


def shop_log(items: int = 3000, sessions: int = 20_000, seed: int = 0) -> Log:
    """A twentieth of the items is held out; their category is the planted cluster."""
    with tempfile.TemporaryDirectory() as folder:
        write_click_log(Path(folder) / "log.parquet", items, sessions, seed=seed)
        raw = pl.read_parquet(Path(folder) / "log.parquet")
    clicks = raw.select(session="session_id", item="item_id", time=pl.col("timestamp") * 1000)
    end = int(clicks["time"].max()) + 1  # type: ignore[arg-type]
    cut, rng, world = end - 3 * DAY, np.random.default_rng(seed + 1), make_world(items, seed, ClickLaw())
    held = rng.choice(items, items // 20, replace=False)
    created = cut - 90 * DAY + rng.integers(0, 80 * DAY, items)
    created[held] = cut - rng.integers(0, DAY, len(held))
    table = pl.DataFrame({
        "id": [f"item-{item + 1}" for item in range(items)],
        "category": [f"cluster-{cluster}" for cluster in world.cluster],
        "price": np.round(rng.lognormal(3, 1, items), 2),
        "created": pl.Series(created).cast(pl.Datetime("ms", "UTC")),
    })  # fmt: skip
    names = frozenset(f"item-{item + 1}" for item in held.tolist())
    return _cut("shop", clicks, table, names, 0, cut, end)


def _cut(
    name: str, clicks: pl.DataFrame, table: pl.DataFrame, held: frozenset[Any], begin: int, cut: int, end: int
) -> Log:
    is_held = pl.col("item").is_in(list(held))
    train = clicks.filter((pl.col("time") >= begin) & (pl.col("time") < cut) & ~is_held)
    test = clicks.filter((pl.col("time") >= cut) & (pl.col("time") < end)).sort("time", "session")
    return Log(name, train, test, table, held)


def trained(log: Log, work: Path, seed: int) -> Path:
    """Return the log's bundle; it is trained once in the work folder."""
    folder = work / f"{log.name}-{seed}"
    bundle = folder / "bundle"
    if not bundle.exists():
        folder.mkdir(parents=True, exist_ok=True)
        log.train.write_parquet(folder / "clicks.parquet")
        log.table.write_parquet(folder / "items.parquet")
        program = [sys.executable, "-m", "mtaw_fast"]
        columns = ["--session", "session", "--item", "item", "--time", "time", "--time-unit", "ms"]
        sources = [str(folder / "clicks.parquet"), str(folder / "dataset"), "--items", str(folder / "items.parquet")]
        prepare = [*program, "prepare", "clicks", *sources, *columns, "--test-days", "0", "--new-since", "created"]
        subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
        train = [*program, "train", str(folder / "dataset"), str(bundle), "--seed", str(seed), *_SHORT]
        subprocess.run(train, check=True)
    return bundle


def measure(log: Log, bundle: Path, way: str, live: bool) -> dict[str, Any]:
    """Rank every test click that is not its session's first, and return the ranks and the new items shown."""
    with tempfile.TemporaryDirectory() as folder:
        cold = int(way in ("start", "start and share"))
        settings = LearningSettings(Path(folder) / "log", compact=False, limits=LearningLimits(cold_start=cold))
        rec = Recommender.load(bundle, learn=settings)
        if way == "neighbors":
            given = neighbors_in(log, rec)
            rec.add_items(list(given), neighbors=list(given.values()))
        before: dict[Any, list[Any]] = defaultdict(list)
        ranks: list[int] = []
        sessions, is_new, shown = [], [], 0
        for session, item, time in log.test.iter_rows():
            clicks = before[session]
            if clicks and item not in clicks:
                share = SHARE if way == "start and share" else 0.0
                items = rec.recommend(clicks, K, at=time, explore=share, explore_seed=len(ranks)).items
                ranks.append(items.index(item) + 1 if item in items else K + 1)
                sessions.append(session)
                is_new.append(item in log.held)
                shown += sum(item in log.held for item in items)
            clicks.append(item)
            if live:
                rec.observe(str(session), [item], at=time)
                rec.catch_up()
        near = _ranks_near(log, rec, way) if not live else []
        rec.close()
    return {"ranks": np.array(ranks), "sessions": np.unique(sessions, return_inverse=True)[1],
            "is_new": np.array(is_new), "shown": shown / len(ranks), "near": near}  # fmt: skip


def neighbors_in(log: Log, rec: Recommender) -> dict[Any, list[Any]]:
    """Return, for each held item that the test clicks, the five known items that it clicks together with it most."""
    counts: dict[Any, Counter[Any]] = defaultdict(Counter)
    for (items,) in log.test.group_by("session").agg(pl.col("item").unique()).select("item").iter_rows():
        for item in log.held.intersection(items):
            counts[item].update(other for other in items if other in rec.ids)
    return {item: [other for other, _ in count.most_common(5)] for item, count in counts.items() if count}


def _ranks_near(log: Log, rec: Recommender, way: str) -> list[int]:
    """Return the ranks of the held items after a session on the five nearest items of their attributes."""
    if way == "wait":
        return []
    prior, model = ContentPrior(rec.bundle.model), rec.bundle.model
    table = model.items
    assert table is not None
    ranks = []
    for item, vector in prior.of_waiting(table, sorted(log.held, key=str)).items():
        if item in rec.ids:
            nearest = np.argsort(-(model.item_vectors @ vector), kind="stable")[:5]
            session = model.ids.external(nearest[::-1])
            ranks.append(rec.recommend(session, rec.n_items, at=int(log.test["time"][0])).items.index(item) + 1)
    return ranks


def measured_with(log: Log, work: Path, seed: int, live: bool) -> tuple[dict[str, Any], dict[str, int]]:
    """Train on a log; return what each way measured, and how many items are held out, new, and wait."""
    bundle = trained(log, work, seed)
    table = Bundle.load(bundle).items
    assert table is not None
    counts = {"held out": len(log.held), "new": len(table.new), "old": len(table.waiting) - len(table.new)}
    new = replace(log, held=frozenset(table.new))
    return {way: measure(new, bundle, way, live) for way in WAYS}, counts


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what several seeds measured as one; their sessions are apart."""
    offsets = np.cumsum([0, *(int(part["sessions"].max()) + 1 for part in parts)])
    return {
        "ranks": np.concatenate([part["ranks"] for part in parts]),
        "sessions": np.concatenate([part["sessions"] + offset for part, offset in zip(parts, offsets, strict=False)]),
        "is_new": np.concatenate([part["is_new"] for part in parts]),
        "shown": float(np.mean([part["shown"] for part in parts])),
        "near": [rank for part in parts for rank in part["near"]],
    }


def report(name: str, found_by_seed: Sequence[tuple[dict[str, Any], dict[str, int]]], live: bool) -> dict[str, Any]:
    """Return each way's P@20 and MRR@20 of new targets, of the others, and of all, and the others' paired loss."""
    measured = {way: joined([found[way] for found, _ in found_by_seed]) for way in WAYS}
    first, rows = measured["wait"], {}
    for way, found in measured.items():
        gains, row = gains_of(found["ranks"]), {"new items a list": round(found["shown"], 2)}
        for part, chosen in (("new", found["is_new"]), ("others", ~found["is_new"]), ("all", found["is_new"] >= 0)):
            means, bounds = (
                gains[chosen].mean(axis=0),
                session_bootstrap(gains[chosen], found["sessions"][chosen]),
            )
            row |= {
                f"{part} P@20": round(means[_HITS], 2), f"{part} MRR@20": round(means[_MRR], 2),
                f"{part} P@20 interval": [round(bound, 2) for bound in bounds["P@20"]],
            }  # fmt: skip
        others = ~found["is_new"]
        lost = (gains - gains_of(first["ranks"]))[others]
        bounds = session_bootstrap(lost, found["sessions"][others])
        for metric, column in (("P@20", _HITS), ("MRR@20", _MRR)):
            row[f"others, {metric} change"] = [round(value, 2) for value in (lost[:, column].mean(), *bounds[metric])]
        if found["near"]:
            row["rank near"] = [float(np.percentile(found["near"], share)) for share in (50, 90)]
        rows[way] = row
    counts = {"samples": len(first["ranks"]), "new": int(first["is_new"].sum())}
    rows_by_seed = [counts for _, counts in found_by_seed]
    return {"log": name, "live": live, **counts, "rows": rows_by_seed, "ways": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure both logs and print a line for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with globo/; without it the shop's log alone")
    parser.add_argument("--work", type=Path, default=Path("runs/new_items"), help="trained bundles (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds from 0 on (%(default)s)")
    parser.add_argument("--live", action="store_true", help="learn from the clicks that are served")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a line a log, as docs/results/new-items.jsonl")
    options = parser.parse_args(argv)
    makers: dict[str, Callable[[int], Log]] = {"shop": lambda seed: shop_log(seed=seed)}
    if options.data is not None:
        makers["news"] = lambda seed: news_log(options.data / "globo", seed)
    results = []
    for name, make in makers.items():
        found = [measured_with(make(seed), options.work, seed, options.live) for seed in range(options.seeds)]
        result = report(name, found, options.live)
        results.append(result)
        print(f"{name}: {result['samples']:,} samples, {result['new']:,} of them on new items; rows: {result['rows']}")
        for way, row in result["ways"].items():
            print(f"  {way:16}", json.dumps(row), flush=True)
    if options.out is not None:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        made = {"at": today, "commit": commit(), "machine": machine_class(machine_record()), "seeds": options.seeds}
        options.out.write_text("".join(json.dumps({**result, "made": made}) + "\n" for result in results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
