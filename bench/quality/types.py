"""What the types of clicks, such as view and cart, are worth to the ranker: P@20 and MRR@20 with and without.

python -m bench.quality.types [--sessions N] [--items N] [--seeds N] [--out FILE]
python -m bench.quality.types --table [--out FILE]

The logs are synthetic (`mtaw_fast.data.synthetic_types`): in one, types steer what is clicked next; in the other they
say nothing. Rankers of the preset `full` without its encoder are trained on the sessions before the last tenth, with
types and without, and rank the clicks of that tenth by the tables of all sessions before it. Each log and group of
targets is a line of --out: the means over seeds, and the difference with its 95% bootstrap interval over sessions.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.json_lines import read_json_lines
from bench.harness.report import command
from bench.quality.paired import difference_of, gains_of
from mtaw_fast.config import Config, preset
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.data.synthetic_types import CART, PURCHASE, TYPES, TypeLaw, draw_typed_sessions
from mtaw_fast.memory import RankerNet
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.ranking.memory_stage import moment_of
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.ranker.side_inputs import SideInputs
from mtaw_fast.training.ranker.train_ranker import fit_samples, ranker_samples
from mtaw_fast.training.reporting import Silent

OUT = Path("docs/results/types.jsonl")
LOGS = {"types steer": TypeLaw(), "types say nothing": TypeLaw(steers=False)}
WITHOUT, WITH = "without types", "with types"
_BEGIN, _DAYS, _BETWEEN, _K, _TEST = 1_700_000_000_000, 30, 30_000, 20, 0.1


def log_of(law: TypeLaw, n_items: int, n_sessions: int, seed: int) -> Sessions:
    """Draw a log: sessions that begin evenly over 30 days, with a click every 30 seconds."""
    drawn = draw_typed_sessions(n_items, n_sessions, seed, types=law)
    starts = _BEGIN + np.arange(n_sessions) * (_DAYS * 86_400_000 // n_sessions)
    positions = np.arange(drawn.n_clicks) - np.repeat(drawn.offsets[:-1], drawn.lengths)
    times = np.repeat(starts, drawn.lengths) + _BETWEEN * positions
    sessions = Sessions(drawn.items, drawn.offsets, times.astype(np.int64), drawn.types)
    return sessions.select(np.argsort(times[drawn.offsets[1:] - 1], kind="stable"))


def groups_of(samples: Samples) -> dict[str, np.ndarray]:
    """Return bool[S] by group of targets: all, after a purchase, new items, and their first carts and purchases."""
    types, ends = samples.prefixes.types, samples.prefixes.offsets[1:]
    assert types is not None
    assert samples.target_types is not None
    is_new = ~samples.repeats()
    return {
        "all": np.ones(len(samples), dtype=bool),
        "after a purchase": types[ends - 1] == PURCHASE,
        "new items": is_new,
        "first carts": is_new & (samples.target_types == CART),
        "first purchases": is_new & (samples.target_types == PURCHASE),
    }


def ranks_of(config: Config, before: Sessions, samples: Samples, n_items: int, net: RankerNet) -> np.ndarray:
    """Return int64[S], the rank of each target by the tables of the sessions before; 0 below the 20th."""
    tables, trends = build_tables(config, before, n_items), build_trends(config, before, n_items)
    assert trends is not None
    memory, prefixes = tables.queries(n_items, query_settings(config, timed=True)), samples.prefixes
    items, ends = np.ascontiguousarray(prefixes.items), prefixes.offsets[1:]
    moment = moment_of(trends.live(n_items), prefixes, ends)
    types = net.types.translated(prefixes.types, TYPES)
    ids, _ = memory.rank(net.native(), items, prefixes.offsets[:-1], ends, _K, moment=moment, types=types)
    hits = ids == samples.targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, 0)


def lines_of(config: Config, name: str, n_items: int, n_sessions: int, seeds: int) -> Iterator[dict[str, object]]:
    """Train and score both rankers with each seed; yield a line for each group of targets."""
    sessions = log_of(LOGS[name], n_items, n_sessions, seed=0)
    before, last = sessions.split_last(_TEST)
    samples = Samples.from_sessions(last, 1)
    inputs = {
        WITHOUT: SideInputs(),
        WITH: SideInputs(types=ClickTypes.of_clicks(before.types, TYPES), type_names=TYPES),
    }
    gains: dict[str, list[np.ndarray]] = {WITHOUT: [], WITH: []}
    for seed in range(seeds):
        for kind, side in inputs.items():
            with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
                seeded = config.replace(seed=seed)
                drawn = ranker_samples(seeded, before, n_items, 1, None, Path(folder), "", Silent(), side=side)
                net, _ = fit_samples(drawn, seeded, "", Silent())
            gains[kind].append(gains_of(ranks_of(config, before, samples, n_items, net)))
            print(name, kind, seed, gains[kind][-1].mean(axis=0).round(2), file=sys.stderr, flush=True)
    means = {kind: np.mean(seed_gains, axis=0) for kind, seed_gains in gains.items()}
    for group, mask in groups_of(samples).items():
        line: dict[str, object] = {"log": name, "targets": group, "samples": int(mask.sum()), "seeds": seeds}
        for kind, mean in means.items():
            line[kind] = dict(zip(("P@20", "MRR@20"), mean[mask].mean(axis=0).round(2).tolist(), strict=True))
        yield line | {"difference": difference_of((means[WITH] - means[WITHOUT])[mask], samples.session[mask])}


def table_of(lines: Sequence[Mapping[str, dict[str, list[float]]]]) -> str:
    """Return the lines as a Markdown table: P@20 / MRR@20, and the differences."""
    head = ("log", "targets", "samples", WITHOUT, WITH, "difference")
    rows = [" | ".join(head), " | ".join(["---"] * len(head))]
    for line in lines:
        texts = [f"{line[kind]['P@20']:.2f} / {line[kind]['MRR@20']:.2f}" for kind in (WITHOUT, WITH)]
        ends = ", ".join("{:+.2f} [{:+.2f}, {:+.2f}]".format(*line["difference"][name]) for name in ("P@20", "MRR@20"))
        rows.append(" | ".join([str(line["log"]), str(line["targets"]), f"{line['samples']:,}", *texts, ends]))
    return "\n".join(f"| {row} |" for row in rows)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the lines of both logs, or print their table; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality.types", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=12_000, help="of a log (default: 12000)")
    parser.add_argument("--items", type=int, default=1500, help="of a log (default: 1500)")
    parser.add_argument("--seeds", type=int, default=3, help="of the rankers (default: 3)")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="print the table of --out instead")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a setting of `full`")
    options = parser.parse_args(argv)
    if not options.table:
        config = preset("full").override(["dense_candidates=0", "ranker_samples=10000", *options.set])
        with limit_threads(1):
            lines = [
                line for name in LOGS for line in lines_of(config, name, options.items, options.sessions, options.seeds)
            ]
        options.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(table_of(read_json_lines(options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
