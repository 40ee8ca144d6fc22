"""How well any model of the clicks could rank: bounds from repeated contexts, and what several models find together.

python -m bench.quality.ceiling --data DATA [--dataset NAMES]
python -m bench.quality.ceiling --table

Test sets are not read. The samples are those of `bench.quality.ablations`: the last 7% of the training sessions.

A *context* is all that a model reads: a whole session of k clicks, or the last k clicks. If the next item has the
probabilities p in a context, two independent sessions in it go on to the same item with the chance c = sum p^2. The
latest earlier session with the same context estimates c without bias, however few there are, if p changes slowly.
The best order of the items then has at most

    MRR@20 <= V(c) = max sum_r p_r / r  over p with sum p <= 1 and sum p^2 <= c,       P@20 <= min(1, sqrt(20 c)),

both concave in c, so that the mean of c over contexts bounds the mean over contexts (Jensen). Intervals are those of c,
over sessions. Repeats and new targets are bounded apart, for a model that is told which of them comes.

The models are the whole preset `full`, the same without an encoder, and the encoder of `paper`; `any` counts a target
that one of the three has among its 20, which no rule that picks one of the three lists can exceed.
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.machine import machine_class, machine_record
from bench.harness.records import commit
from bench.harness.register import read_json_lines
from bench.harness.report import command
from bench.quality.ablations import Study, difference_of, study_parser
from bench.quality.runs import prepared
from bench.quality.table import ceiling as table
from mtaw_fast.data.sessions import Sessions, ranges
from mtaw_fast.storage.files import atomic_path

OUT = Path("docs/results/ceiling.jsonl")
MODELS = ("full", "no encoder", "paper")
CONTEXTS = ("whole 1", "whole 2", "last 1", "last 2", "last 3")
KINDS = ("all", "repeat", "new")
_DEPTH, _STEPS = 20, 60  # of the lists; bisections of V


def best_mrr(c: float) -> float:
    """Return V(c): the highest MRR@20 of any order, where two draws agree with the chance c in 0..1."""
    weights = 1 / np.arange(1, _DEPTH + 1)
    if c <= weights @ weights / weights.sum() ** 2:  # the sum of p stays below 1
        return float(np.sqrt(c * (weights @ weights)))
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        p = np.maximum(weights - middle, 0)
        p /= max(p.sum(), 1e-300)
        low, high = (middle, high) if p @ p < c else (low, middle)
    p = np.maximum(weights - low, 0)
    return float(p @ weights / p.sum())


def best_precision(c: float) -> float:
    """Return the highest P@20 of any order, where two draws agree with the chance c."""
    return min(1.0, float(np.sqrt(_DEPTH * c)))


def agreeing(sessions: Sessions, min_prefix: int, context: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Compare each sample with the latest one before it that has the same context and kind, of another session.

    Returns the positions, among all samples of the sessions, of those that have one (int64[n]), and whether both go on
    to the same item (bool[n]). context: of `CONTEXTS`; kind: of `KINDS`.
    """
    counts = np.maximum(sessions.lengths - min_prefix, 0)
    owner = np.repeat(np.arange(len(sessions)), counts)
    targets = ranges(sessions.offsets[:-1] + min_prefix, counts)
    lengths = targets - sessions.offsets[owner]
    form, clicks = context.split()
    chosen = lengths == int(clicks) if form == "whole" else lengths >= int(clicks)
    if kind != "all":
        chosen &= sessions.first_clicks()[targets] == (kind == "new")
    rows = np.flatnonzero(chosen)
    group = np.zeros(len(rows), dtype=np.int64)
    for back in range(1, int(clicks) + 1):
        keys = group * (int(sessions.items.max()) + 1) + sessions.items[targets[rows] - back]
        group = np.unique(keys, return_inverse=True)[1].ravel()
    order = np.argsort(group, kind="stable")
    rows, group = rows[order], group[order]
    begins = np.ones(len(rows), dtype=bool)  # of the runs with the context of one session
    begins[1:] = (group[1:] != group[:-1]) | (owner[rows[1:]] != owner[rows[:-1]])
    earlier = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0)) - 1
    has_earlier = (earlier >= 0) & (group[earlier] == group)
    next_items = sessions.items[targets[rows]]
    return rows[has_earlier], (next_items == next_items[earlier])[has_earlier]


def lines_of(study: Study, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield a line for each context and kind, then one for each kind with what the models find."""
    samples = study.samples
    models = {name: study.gains(name, seed) for name in MODELS}
    n_earlier = int(np.maximum(study.train_sessions.lengths - study.dataset.min_prefix, 0).sum())
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made = {"at": today, "commit": commit(), "machine": machine_class(machine_record())}
    named = {"dataset": study.dataset.name, "samples": len(samples), "made": made}
    for context in CONTEXTS:
        for kind in KINDS:
            rows, same = agreeing(study.dataset.train, study.dataset.min_prefix, context, kind)
            rows, same = rows[rows >= n_earlier] - n_earlier, same[rows >= n_earlier]
            if len(rows) == 0:
                continue
            chances = np.repeat(same[:, None], 2, axis=1).astype(float)
            alike = difference_of(chances, samples.session[rows], digits=4)["P@20"]
            yield {
                **named, "context": context, "kind": kind, "covered": len(rows), "alike": alike,
                "P@20 at most": [round(100 * best_precision(c), 2) for c in alike],
                "MRR@20 at most": [round(100 * best_mrr(c), 2) for c in alike],
                "full": np.round(models["full"][rows].mean(axis=0), 2).tolist(),
            }  # fmt: skip
    is_repeat = samples.repeats()
    for kind, chosen in zip(KINDS, (np.ones(len(samples), bool), is_repeat, ~is_repeat), strict=True):
        if not chosen.any():
            continue
        found = {name: gains[chosen, 0] for name, gains in models.items()}
        found["any"] = np.max([*found.values()], axis=0)
        more = np.repeat((found["any"] - found["full"])[:, None], 2, axis=1)
        yield {
            **named, "kind": kind, "P@20": {name: round(float(hits.mean()), 2) for name, hits in found.items()},
            "any over full": difference_of(more, samples.session[chosen])["P@20"],
        }  # fmt: skip


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the lines, and print their table; return the exit status."""
    parser = study_parser("python -m bench.quality.ceiling", __doc__, OUT)
    options = parser.parse_args(argv)
    if not options.table:
        if options.data is None:
            parser.error("give --data, or --table for what is recorded")
        lines: list[dict[str, Any]] = []
        with limit_threads(options.threads):
            for name in options.dataset.split(","):
                lines += lines_of(Study(prepared(options.data, name, options.work), options.work, options.set))
        with atomic_path(options.out) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(table(read_json_lines(options.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
