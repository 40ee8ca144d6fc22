"""How well items are ordered that nobody has clicked: some are held out whole, and are the targets.

python -m bench.quality.held_out_items BUNDLE LOG --from 2017-10-14 --until 2017-10-15

The bundle has an item table with a time column, and categories. A tenth of its items is held out: the order is fitted
on clicks on the others before `--from`. Then each click on a held-out item looks for it among the held-out items of the
last three days, after the session's clicks on other items. The baselines are the newest first, the most clicked
category first (half-life one hour), and the newest of the last click's category first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.harness.report import command
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli.learning_options import log_of
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import UsageError
from mtaw_fast.items.columns import NO_TIME
from mtaw_fast.items.unclicked_order import NO_CATEGORY, OWN, UnclickedOrder, fit_unclicked_order
from mtaw_fast.model.model import Model
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.content_prior import waiting_rows
from mtaw_fast.ranking.item_content import content_columns

_K = 20
_WINDOW = 72 * 3_600_000
_HALF_LIFE = 3_600_000.0


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print the metrics as JSON; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("log", type=Path, metavar="LOG")
    parser.add_argument("--from", dest="begin", required=True, metavar="TIME")
    parser.add_argument("--until", required=True, metavar="TIME")
    parser.add_argument("--share", type=float, default=0.1, help="of the items that are held out (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    begin, until = moment_of("--from", options.begin), moment_of("--until", options.until)
    assert begin is not None
    assert until is not None
    bundle = Bundle.load(options.bundle)
    log = log_of(bundle, options.log, LearningLimits())
    category, created = _attributes(bundle.model, log.stream.item_ids)
    rng = np.random.default_rng(options.seed)
    dated = np.flatnonzero(created != NO_TIME)
    held = np.zeros(len(created), dtype=bool)
    held[rng.permutation(dated)[: round(options.share * len(dated))]] = True
    order = _fitted(bundle.model, category, created, held, log.stream.item_ids, options.seed)
    ranks = _ranks(log.stream.sessions, log.stream.items, log.times, category, created, held, order, (begin, until))
    metrics = {
        name: {
            f"P@{_K}": round(100 * float(np.mean(np.array(order_ranks) <= _K)), 2),
            f"MRR@{_K}": round(100 * float(np.mean([1 / rank if rank <= _K else 0.0 for rank in order_ranks])), 2),
        }
        for name, order_ranks in ranks.items()
    }
    print(
        json.dumps({"held_out": int(held.sum()), "targets": len(ranks["order"]), "weights": order.weights, **metrics})
    )
    return 0


def _attributes(model: Model, ids: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Return int64[n] the category, -1 if missing, and int64[n] the time of the items of a log."""
    side, table = content_columns(model.items), model.items
    if table is None or side.created is None or not side.categories:
        raise UsageError("the bundle has no item table with a category and a time; prepare with --items, and train")
    names = [side.categories[0], side.created]
    waiting = waiting_rows(table)
    rows = table.values_at(names, np.arange(table.n_rows))
    rows += waiting.values_at(filter(waiting.__contains__, names), np.arange(waiting.n_rows))
    external = [*model.ids.external(np.arange(table.n_rows, dtype=np.int32)), *table.waiting.ids]
    of_item = dict(zip(external, rows, strict=True))
    codes: dict[object, int] = {}
    category, created = np.full(len(ids), NO_CATEGORY), np.full(len(ids), NO_TIME)
    for index, item in enumerate(ids):
        row = of_item.get(item, {})
        if names[0] in row:
            label = row[names[0]]
            label = label[0] if isinstance(label, list) else label
            category[index] = codes.setdefault(label, len(codes))
        created[index] = row.get(names[1], NO_TIME)
    return category, created


def _fitted(
    model: Model, category: np.ndarray, created: np.ndarray, held: np.ndarray, ids: Sequence[object], seed: int
) -> UnclickedOrder:
    """Fit the order on the model's sessions without clicks on held-out items."""
    code_of = {item: code for code, item in enumerate(ids)}
    codes = np.array([code_of.get(item, -1) for item in model.ids.external(np.arange(model.n_items, dtype=np.int32))])
    sessions, times = model.sessions, model.clicked_at
    assert times is not None
    kept = codes[sessions.items] >= 0
    kept[kept] = ~held[codes[sessions.items][kept]]
    counts = np.add.reduceat(kept, sessions.offsets[:-1])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    items = codes[sessions.items][kept]
    order = fit_unclicked_order({"category": category}, "time", created, items, offsets, times[kept], NO_TIME, seed)
    if order is None:
        raise UsageError("the bundle has too few clicks on items with a time; train it on a longer log")
    return order


def _ranks(
    sessions: np.ndarray,
    items: np.ndarray,
    times: np.ndarray,
    category: np.ndarray,
    created: np.ndarray,
    held: np.ndarray,
    order: UnclickedOrder,
    span: tuple[int, int],
) -> dict[str, list[int]]:
    """Return the rank of each target by each order."""
    ranks: dict[str, list[int]] = {"order": [], "newest": [], "category popularity": [], "newest of the category": []}
    clicked: defaultdict[int, list[int]] = defaultdict(list)
    popular, latest = np.zeros(int(category.max()) + 1), int(times[0])
    pool = np.flatnonzero(held)
    for session, item, now in zip(sessions.tolist(), items.tolist(), times.tolist(), strict=True):
        if now >= span[1]:  # the log is in order of time
            break
        seen = clicked[session]
        if span[0] <= now < span[1] and held[item] and seen:
            available = pool[(created[pool] <= now) & (created[pool] > now - _WINDOW)]
            target = np.flatnonzero(available == item)
            if len(target):
                own_categories = [int(category[own_item]) for own_item in seen[::-1][:OWN]]
                codes, created_at = category[available], created[available]
                scores = {
                    "order": order.scores([codes], created_at, [own_categories], now),
                    "newest": created_at.astype(np.float64),
                    "category popularity": np.where(codes < 0, 0, popular[codes]),
                    "newest of the category": (codes == own_categories[0]) * 1e15 + created_at,
                }
                for name, values in scores.items():
                    ahead = (values > values[target]) | ((values == values[target]) & (created_at >= created[item]))
                    ranks[name].append(int(np.count_nonzero(ahead)))  # the target itself counts once: ranks start at 1
        if not held[item]:
            seen.append(item)
            if category[item] >= 0:
                popular *= 2.0 ** ((latest - now) / _HALF_LIFE)
                popular[category[item]] += 1.0
                latest = now
    if not ranks["order"]:
        raise UsageError("no click of the log is on a held-out item after another one; give a longer span")
    return ranks


if __name__ == "__main__":
    sys.exit(main())
