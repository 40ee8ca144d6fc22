"""What a ranker's times are worth to a bundle that learns, and to one that does not: P@20 and MRR@20 by its age.

python -m bench.quality.frozen LOG --name NAME --out FILE [--session C --item C --time C] [--day N] [--seeds N]
python -m bench.quality.frozen --table [--out FILE]

Rankers of the preset `full` without its encoder are trained on the sessions before a test day: with times, without,
and with times but without frozen samples. Each ranks samples of that day by the tables of all sessions before it, by
those of the sessions until a day or a week before, and learning. Each ranker and moment is a line of --out: the mean
over seeds, with its differences and their 95% bootstrap intervals over sessions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.json_lines import read_json_lines
from bench.harness.report import command
from bench.quality.paired import difference_of, gains_of
from mtaw_fast.config import Config, preset
from mtaw_fast.data import readers
from mtaw_fast.data.readers.clicks import ClickOptions
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.ranking.memory_stage import moment_of
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.ranker.dataset import RankerDataset
from mtaw_fast.training.ranker.fitting import fit_ranker
from mtaw_fast.training.ranker.prequential import ReplayOrder, build_dataset, evenly
from mtaw_fast.training.ranker.train_ranker import fit_settings
from mtaw_fast.training.reporting import Silent

OUT = Path("docs/results/frozen.jsonl")
PLAIN, GROWING, TIMES = "without times", "no frozen samples", "with times"
_DAY, _HOUR, _K = 86_400_000, 3_600_000, 20
_MOMENTS = ("first hour", "first day", "a day later", "a week later", "learning", "a week later, learning")
_GAPS = {"first day": 0, "a day later": 1, "a week later": 7, "learning": 0, "a week later, learning": 7}


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """A log before a test day, and samples of the day: each click of `clicks` (indices) from those before it."""

    config: Config
    before: Sessions
    day: Sessions
    clicks: np.ndarray
    n_items: int

    @classmethod
    def of(cls, config: Config, sessions: Sessions, n_items: int, day: int, samples: int) -> Day:
        """Return the day's part of the sessions. day: Unix ms of its beginning. samples: how many, evenly spread."""
        assert sessions.times is not None
        first, last = sessions.times[sessions.offsets[:-1]], sessions.times[sessions.offsets[1:] - 1]
        day_sessions = sessions.select(np.flatnonzero((first >= day) & (first < day + _DAY)))
        clicks = np.setdiff1d(np.arange(day_sessions.n_clicks), day_sessions.offsets)
        clicks = clicks[evenly(len(clicks), samples)]
        return cls(config, sessions.select(np.flatnonzero(last < day)), day_sessions, clicks, n_items)

    def ranks(self, rankers: Mapping[str, RankerNet], gap: int, *, learning: bool) -> dict[str, np.ndarray]:
        """Return the rank of each sample's target by ranker, int64[S], 0 below the 20th.

        gap: days before the test day that the tables do not know. learning: whether they learn the day's clicks.
        """
        assert self.before.times is not None
        assert self.day.times is not None
        last = self.before.times[self.before.offsets[1:] - 1]
        end = int(self.before.times.max()) + 1 - gap * _DAY
        known = self.before.select(np.flatnonzero(last < end))
        tables, built = build_tables(self.config, known, self.n_items), build_trends(self.config, known, self.n_items)
        assert built is not None
        trends, settings = built.live(self.n_items), tables.settings
        assert settings.recency is not None
        delta = MemoryDelta(
            tables.arrays(), window=settings.window, span=settings.span, recency=settings.recency,
            max_neighbors=settings.max_neighbors, max_postings=settings.max_postings, capacity=0,
        )  # fmt: skip
        memories = {
            timed: tables.queries(self.n_items, query_settings(self.config, timed), delta=delta)
            for timed in (False, True)
        }
        native = {name: net.native() for name, net in rankers.items()}
        items = np.ascontiguousarray(self.day.items)
        begin_of = np.repeat(self.day.offsets[:-1], self.day.lengths)
        sample_of = np.full(self.day.n_clicks, -1)
        sample_of[self.clicks] = np.arange(len(self.clicks))
        handle_of = np.repeat(np.arange(len(self.day)), self.day.lengths)
        ranks = {name: np.zeros(len(self.clicks), dtype=np.int64) for name in rankers}
        order = ReplayOrder.of(self.day, self.config.ranker.prequential_chunk, 60_000)
        for chunk in np.split(order.clicks, order.bounds[1:-1]):
            sampled = chunk[sample_of[chunk] >= 0]
            moment = moment_of(trends, self.day, sampled) if len(sampled) else None
            for name, net in rankers.items() if len(sampled) else ():
                ids, _ = memories[net.has_trends].rank(
                    native[name], items, begin_of[sampled], sampled, _K, moment=moment if net.has_trends else None
                )
                hits = ids == items[sampled][:, None]
                ranks[name][sample_of[sampled]] = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)
            if learning:
                delta.click(handle_of[chunk], items[chunk])
                trends.click(handle_of[chunk], items[chunk], self.day.times[chunk])
        return ranks


def rankers_of(day: Day, seeds: int, folder: Path) -> Iterator[tuple[str, int, RankerNet]]:
    """Train the rankers: (kind, seed, ranker)."""
    before, last = day.before.split_last(day.config.ranker.ranker_fraction)
    assert before.times is not None
    tables, since = build_tables(day.config, before, day.n_items), int(before.times.max())
    for timed in (False, True):
        trends = build_trends(day.config, before, day.n_items) if timed else None
        growing = whole = build_dataset(day.config, tables, last, 1, None, folder, "", Silent(), since, trends)
        if timed:
            growing = whole.subset(np.arange(len(whole.targets) - whole.frozen))
        for seed in range(seeds):
            for kind, dataset in ((GROWING, growing), (TIMES, whole)) if timed else ((PLAIN, whole),):
                yield kind, seed, _fitted(day.config, dataset, seed, timed=timed)


def _fitted(config: Config, dataset: RankerDataset, seed: int, *, timed: bool) -> RankerNet:
    fit = fit_settings(config, timed=timed)
    return fit_ranker(dataset, dataset.targets, dataset.lengths, fit, seed, "", Silent())[0]


def lines_of(day: Day, name: str, seeds: int) -> Iterator[dict[str, object]]:
    """Train and score; yield a line for each kind and moment, with the means over seeds and the paired differences."""
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        nets = {(kind, seed): net for kind, seed, net in rankers_of(day, seeds, Path(folder))}
    rankers = {f"{kind}/{seed}": net for (kind, seed), net in nets.items()}
    assert day.day.times is not None
    session = np.searchsorted(day.day.offsets, day.clicks, side="right") - 1
    early = day.day.times[day.clicks] < int(day.day.times.min()) + _HOUR
    for moment, gap in _GAPS.items():
        ranks = day.ranks(rankers, gap, learning=moment.endswith("learning"))
        gains = {key: gains_of(values) for key, values in ranks.items()}
        for label, selection in ((moment, slice(None)), *([("first hour", early)] if moment == "first day" else [])):
            means = {
                kind: np.mean([gains[f"{kind}/{seed}"][selection] for seed in range(seeds)], axis=0)
                for kind in (PLAIN, GROWING, TIMES)
            }
            for kind, mean in means.items():
                line: dict[str, object] = {
                    "log": name, "moment": label, "ranker": kind, "seeds": seeds, "samples": len(mean),
                    "P@20": round(float(mean[:, 0].mean()), 2), "MRR@20": round(float(mean[:, 1].mean()), 2),
                }  # fmt: skip
                if kind != PLAIN:
                    line["difference"] = difference_of(mean - means[PLAIN], session[selection])
                if kind == TIMES:
                    line["difference from no frozen samples"] = difference_of(mean - means[GROWING], session[selection])
                yield line


def table_of(lines: Sequence[Mapping[str, object]]) -> str:
    """Return the lines as a Markdown table: P@20 / MRR@20, and the differences from `without times`."""
    head = ("log", "moment", PLAIN, GROWING, TIMES, "difference")
    rows = [" | ".join(head), " | ".join(["---"] * len(head))]
    by_key = {(line["log"], line["moment"], line["ranker"]): line for line in lines}
    for log in dict.fromkeys(line["log"] for line in lines):
        for moment in _MOMENTS:
            cells = [by_key[log, moment, kind] for kind in (PLAIN, GROWING, TIMES)]
            difference = cells[-1]["difference"]
            assert isinstance(difference, dict)
            texts = [f"{cell['P@20']:.2f} / {cell['MRR@20']:.2f}" for cell in cells]
            ends = ", ".join("{:+.2f} [{:+.2f}, {:+.2f}]".format(*difference[name]) for name in ("P@20", "MRR@20"))
            rows.append(" | ".join([str(log), moment, *texts, ends]))
    return "\n".join(f"| {row} |" for row in rows)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Add the lines of a log to the file, or print the table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.frozen", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("log", type=Path, nargs="?", help="a click log")
    parser.add_argument("--name", default="log", help="of the log in the lines")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="print the table of --out")
    for name, column in (("session", "session_id"), ("item", "item_id"), ("time", "timestamp")):
        parser.add_argument(f"--{name}", default=column, metavar="COLUMN", help=f"(default: {column})")
    parser.add_argument("--day", type=int, default=1, help="the test day, counted from the log's last one (default: 1)")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=8000, help="of the test day, at most (default: 8000)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of `full`")
    options = parser.parse_args(argv)
    if options.log is not None:
        config = preset("full").override(["dense_candidates=0", *options.set])
        columns = {"session": options.session, "item": options.item, "time": options.time}
        data = readers.read("clicks", options.log, options=ClickOptions(test_days=0, min_support=1, **columns))
        assert data.train.times is not None
        begin = (int(data.train.times.max()) // _DAY - options.day + 1) * _DAY
        with limit_threads(1), options.out.open("a") as stream:
            for line in lines_of(Day.of(config, data.train, data.n_items, begin, options.samples), options.name,
                                 options.seeds):  # fmt: skip
                stream.write(json.dumps(line) + "\n")
                print(line, file=sys.stderr, flush=True)
    if options.table:
        print(table_of(read_json_lines(options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
