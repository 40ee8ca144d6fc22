"""Rankings under rules against plain ones: filters of every selectivity, five rules, rules after the last click.

python -m bench.rules [--quick] [--items N,..] [--json FILE]
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import Case, Contender, Plan, limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say, whole_numbers
from bench.harness.workload import Workload, generated
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.items.columns import BooleanColumn, CategoryColumn, NumberColumn
from mtaw_fast.items.labels import Labels
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.options import Conditions
from mtaw_fast.recommender import Recommender

SIZES = "40727,1000000"
QUICK_SIZES = "5000"

_PLAN = Plan(rounds=150, burst=4, settle=2, seconds=12.0)
_QUICK = Plan(rounds=20, burst=2, settle=1, seconds=2.0, min_rounds=3)
K = 20
SHARES = (0.1, 1, 10, 50)  # percent of the items that a filter leaves
_BRANDS = 200
_CHECKED = 3


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("rules", __doc__)
    parser.add_argument("--items", metavar="N,..", help=f"sizes of generated catalogs (default: {SIZES})")
    options = parse(parser, argv)
    sizes = options.items or (QUICK_SIZES if options.quick else SIZES)
    report = Report("rules", options.quick)
    with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        for n_items in whole_numbers("--items", sizes):
            cases = RuleCases(generated(n_items, Path(folder) / str(n_items)), _QUICK if options.quick else _PLAN)
            for case in cases.all():
                say(f"measuring {case.name}, {n_items} items")
                report.run(case)
    return report.finish(options.json)


@dataclass(frozen=True, slots=True)
class Meaning:
    """Rules as arrays: mask bool[N], boosts [(mask, by)], most of a brand, pin (internal id, position).

    apart: how many items stand between two of a brand, or more.
    """

    mask: np.ndarray
    boosts: tuple[tuple[np.ndarray, float], ...] = ()
    most: int | None = None
    pin: tuple[int, int] | None = None
    apart: int = 0


class RuleCases:
    """The cases over one workload, whose items get random columns; the rules' definition in numpy checks them."""

    def __init__(self, workload: Workload, plan: Plan) -> None:
        self._plan, self._params = plan, workload.params
        self._rec = Recommender.load(workload.bundle.folder)
        n_items = workload.bundle.n_items
        rng = np.random.default_rng(1)
        self._price = rng.uniform(0, 100, n_items)
        self._brand = rng.integers(0, _BRANDS, n_items).astype(np.int32)
        self._sale, self._new = (rng.random(n_items) < share for share in (0.2, 0.05))
        table = ItemTable(
            n_items,
            {
                "price": NumberColumn(name="price", values=self._price),
                "brand": CategoryColumn(
                    name="brand", codes=self._brand, labels=Labels.of([f"b{code}" for code in range(_BRANDS)])
                ),
                "sale": BooleanColumn(name="sale", values=self._sale.astype(np.int8)),
                "new": BooleanColumn(name="new", values=self._new.astype(np.int8)),
            },
        )
        self._rec._served.update(lambda catalog: replace(catalog, items=table))
        self._ids = workload.bundle.ids
        self._sessions = [np.asarray(session) for session in workload.serve]
        self._requests = [self._ids.external(session) for session in self._sessions]

    def all(self) -> Iterator[Case]:
        """Yield the cases."""
        everything = np.ones(len(self._price), dtype=bool)
        for share in SHARES:
            yield self._case(
                f"filter-{share}%", {"filter": f"price < {share}"}, lambda _, s=share: Meaning(self._price < s)
            )
        yield self._case(
            "filter-current", {"filter": "brand != current.brand"},
            lambda clicks: Meaning(self._brand != self._brand[clicks[-1]]),
        )  # fmt: skip
        yield self._case("limit", {"limit": {"per": "brand", "most": 1}}, lambda _: Meaning(everything, most=1))
        yield self._case(
            "diversify", {"diversify": {"per": "brand", "most": 1, "of": 3}}, lambda _: Meaning(everything, apart=2)
        )  # fmt: skip
        yield self._case(
            "boost", {"boost": {"when": "new", "by": 0.3}}, lambda _: Meaning(everything, ((self._new, 0.3),))
        )
        pinned, boosts = 7, ((self._new, 0.3), (self._sale, -0.3))
        five = {
            "filter": 'price < 80 and not brand == "b3"',
            "boost": [{"when": "new", "by": 0.3}, {"when": "sale", "by": -0.3}],
            "limit": {"per": "brand", "most": 2},
            "pin": {str(self._ids.external(np.array([pinned], dtype=np.int32))[0]): 3},
        }
        yield self._case(
            "five-rules", five,
            lambda _: Meaning((self._price < 80) & (self._brand != 3), boosts, 2, (pinned, 3)),
        )  # fmt: skip
        yield self._case(
            "boost-all-first", {"boost": {"when": "price < 1", "by": 1000}},
            lambda _: Meaning(everything, ((self._price < 1, 1000.0),)),
        )  # fmt: skip

    def _case(self, name: str, rules: dict[str, Any], meaning: Any) -> Case:
        requests, rec = self._requests, self._rec

        def check(contender: Contender) -> str | None:
            if contender.name == "plain":
                return None
            for number in range(_CHECKED):
                answer = contender.run(number)
                expected = self._expected(number, meaning(self._sessions[number]))
                if self._ids.lookup(answer.items).tolist() != expected:
                    return f"session {number}: other items than by the definition"
            return None

        def ruled(call: int) -> Recommendations:
            return rec.recommend(requests[call % len(requests)], K, rules=rules)

        def plain(call: int) -> Recommendations:
            return rec.recommend(requests[call % len(requests)], K)

        params = {**self._params, "k": K, "rules": name}
        return Case(
            name, params, "latency_us", Contender("ours", ruled), [Contender("plain", plain)], check, self._plan
        )

    def _expected(self, number: int, meaning: Meaning) -> list[int]:
        """Return the definition's answer: internal ids."""
        n_items = len(self._price)
        session = Sessions.from_lists([self._sessions[number]])
        allowed = self._rec.filter(allow=self._ids.external(np.flatnonzero(meaning.mask).astype(np.int32)))
        ranked, base = self._rec._pipeline.rank(session, n_items, Conditions(allowed=allowed))
        ids = ranked[0][ranked[0] >= 0]
        total = np.zeros(len(ids))
        for mask, boost in meaning.boosts:
            total += np.where(mask[ids], boost, 0.0)
        scores = (base[0][: len(ids)].astype(np.float64) + total).astype(np.float32)
        answer: list[int] = []
        counts = np.zeros(_BRANDS, dtype=np.int64)
        left = ids[np.lexsort((ids, -scores))].tolist()
        while left and len(answer) <= K:
            recent = {self._brand[item] for item in answer[max(0, len(answer) - meaning.apart) :]}
            item = next(item for item in left if self._brand[item] not in recent)
            left.remove(item)
            if meaning.most is not None and counts[self._brand[item]] >= meaning.most:
                continue
            counts[self._brand[item]] += 1
            answer.append(item)
        if meaning.pin is not None and meaning.mask[meaning.pin[0]]:
            item, position = meaning.pin
            answer = [other for other in answer if other != item]
            answer.insert(position - 1, item)
        return answer[:K]


if __name__ == "__main__":
    raise SystemExit(main())
