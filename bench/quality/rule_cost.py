"""Rules: what limits and diversity by a category cost in hits, paired with the plain lists of the same bundle.

python -m bench.quality.rule_cost [--data DIR] [--work DIR] [--json FILE]

Two logs: that of `make demo` (3,000 items, its last three days; the category is the planted cluster), and two days and
six hours of a news log (DIR/globo, 2017-10-09 to 11; the category of the articles). Both test splits are ranked by the
path that serves, each sample right after its last click, with and without the rule.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import mtaw_fast
from mtaw_fast import Recommender
from mtaw_fast.assessment.inputs import rankable_by
from mtaw_fast.config import DEFAULT_PRESET, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.synthetic import ClickLaw, make_world
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.evaluation.metrics import METRICS, gains_of, session_bootstrap
from mtaw_fast.items.columns import CategoryColumn

K = 20
_CHUNK = 256  # sessions of a batch
_HITS, _MRR = METRICS.index("P@20"), METRICS.index("MRR@20")
RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "diversify: 1 of any 3": {"diversify": {"per": "category", "most": 1, "of": 3}},
    "diversify: 2 of any 5": {"diversify": {"per": "category", "most": 2, "of": 5}},
    "limit: 5": {"limit": {"per": "category", "most": 5}},
}


@dataclass(frozen=True)
class Shop:
    """A log, its item table, and how they are prepared. settings: of the training, as of `train --set`."""

    name: str
    log: Path
    table: pl.DataFrame
    options: dict[str, Any]
    settings: list[str]


def news(folder: Path) -> Shop:
    """Two days to learn from, six hours to rank; one epoch, as in `new_items`."""
    table = pl.read_parquet(folder / "articles.parquet").select(
        pl.col("item").alias("id"), pl.col("category").cast(pl.String)
    )
    options = {
        "session": "session", "item": "item", "time": "time_ms", "time_unit": "ms", "since": "2017-10-09",
        "until": "2017-10-11T06:00", "test_days": 0.25,
    }  # fmt: skip
    return Shop("news", folder / "clicks.parquet", table, options, ["epochs=1"])


def demo(work: Path) -> Shop:
    """The log of `make demo`, with the planted clusters as categories."""
    log = work / "demo.csv"
    write_click_log(log, 3000, 20_000, seed=0)
    clusters = make_world(3000, 0, ClickLaw()).cluster
    table = pl.DataFrame({
        "id": [f"item-{number + 1}" for number in range(len(clusters))],
        "category": [f"cluster-{cluster}" for cluster in clusters],
    })  # fmt: skip
    return Shop("demo", log, table, {"test_days": 3}, [])


def trained(shop: Shop, work: Path) -> tuple[Recommender, Dataset]:
    """Return the shop's bundle and data set; they are made once in the work folder."""
    dataset, bundle = work / f"{shop.name}.dataset", work / f"{shop.name}.bundle"
    if not dataset.exists():
        mtaw_fast.prepare(shop.log, dataset, items=shop.table, **shop.options)
    if not bundle.exists():
        mtaw_fast.train(dataset, bundle, preset(DEFAULT_PRESET).override(shop.settings))
    return Recommender.load(bundle), Dataset.load(dataset)


def gains_under(recommender: Recommender, data: Dataset, rules: dict[str, Any]) -> tuple[np.ndarray, float]:
    """Return the metrics of each test sample, float64[S, 4], and the categories of a list on average."""
    samples = rankable_by(recommender, data.test, data)
    table = recommender.items
    assert table is not None
    column = table["category"]
    assert isinstance(column, CategoryColumn)
    categories = column.codes
    ranks, kinds = np.full(len(samples), K + 1), 0
    for begin in range(0, len(samples), _CHUNK):
        rows = np.arange(begin, min(begin + _CHUNK, len(samples)))
        answers = recommender.recommend_batch(samples.prefixes.select(rows), K, rules=rules)
        for row, answer in zip(rows, answers, strict=True):
            ids = recommender.ids.lookup(answer.items)
            kinds += len(np.unique(categories[ids]))
            found = np.flatnonzero(ids == samples.targets[row])
            if len(found):
                ranks[row] = found[0] + 1
    return gains_of(ranks), kinds / len(samples)


def report(shop: Shop, work: Path) -> dict[str, Any]:
    """Return P@20 and MRR@20 under each of the rules, and the differences from the plain lists with 95% intervals."""
    recommender, data = trained(shop, work)
    rows: dict[str, Any] = {}
    session = data.test.session
    plain, _ = gains_under(recommender, data, {})
    for name, rules in RULES.items():
        gains, kinds = gains_under(recommender, data, rules)
        bounds = session_bootstrap(gains - plain, session)
        means, change = gains.mean(axis=0), (gains - plain).mean(axis=0)
        rows[name] = {
            "P@20": round(means[_HITS], 2), "MRR@20": round(means[_MRR], 2), "categories a list": round(kinds, 1),
            "P@20, change": [round(float(value), 2) for value in (change[_HITS], *bounds["P@20"])],
            "MRR@20, change": [round(float(value), 2) for value in (change[_MRR], *bounds["MRR@20"])],
        }  # fmt: skip
    return {"log": shop.name, "items": recommender.n_items, "samples": len(session), "rules": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the logs and print a line for each rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with globo/; without it the demo's log alone")
    parser.add_argument("--work", type=Path, default=Path("runs/rule_cost"), help="trained bundles (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    shops = [demo(options.work)] + ([news(options.data / "globo")] if options.data else [])
    results = []
    for shop in shops:
        results.append(result := report(shop, options.work))
        print(f"{result['log']}: {result['samples']:,} samples, {result['items']:,} items")
        for name, row in result["rules"].items():
            print(f"  {name:22}", json.dumps(row), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
