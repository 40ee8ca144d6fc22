"""Attacks on what a service learns: a search for the sessions that move an item most, or silence honest clicks most.

python -m bench.live.attacks [--quick] [--shops CLICKS,..] [--trials N] [--seed S] [--json FILE]

Shops of 3,700, 10,000 and 100,000 clicks a day are one trained model, whose past is the same sessions in more or less
time, repeated for a week. For an hour, honest visitors, each from an origin of its own, click as open clients at the
shop's rate, and 24 visits more go to A, a popular item. n colluding sessions click among them, from 1 or n origins.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.report import Report, bench_parser, command, parse, say, whole_numbers
from bench.live.attacked_shop import ITEM_CHOICES, Outcome, Shape, Shop, at_rate, trained_shop
from mtaw_fast.online.settings import LearningLimits

SHOPS, SESSIONS = (3_700, 10_000, 100_000), (1, 10, 100, 1_000)
OBJECTIVES = ("unknown", "visitors", "honest", "attacked")
_FIRST = 20  # of unknown visitors: where ten sessions of one origin must not bring B

CHOICES: Mapping[str, Sequence[Any]] = {
    "target": ("B", "B", "B", "new", "A", "popular"), "item": range(len(ITEM_CHOICES)), "before": (0, 1, 3, 6, 20, 150),
    "with_a": (False, True), "between": (0, 1, 3, 10), "clicks": (1, 2, 5), "after": (0, 1, 3),
    "filler": ("random", "popular", "partners", "A", "invented"), "visits": (1, 1, 2, 20, 100), "apart": (False, True),
    "pace": (0, 1_000, 10_000), "times": ("now", "alternating", "day"),
    "forgets": ("none", "none", "each", "half", "end"), "even": (False, True), "begin": (0.05, 0.9),
}  # fmt: skip

_STARTS = (
    Shape(),
    Shape(before=20, with_a=True, clicks=5, pace=1_000, visits=20, even=True),
    Shape(before=150, with_a=True, clicks=5, after=1, pace=1_000, even=True),
    Shape(before=3, visits=20, apart=True, times="alternating"),
    Shape("A", before=0, clicks=5, visits=20, pace=10_000, even=True, forgets="each"),
)  # found by earlier searches


def search(
    shop: Shop, sessions: int, many: bool, trials: int, seed: int, starts: Sequence[Shape] = (), **fixed: Any
) -> dict[str, tuple[Shape, Outcome]]:
    """Return the worst shape and its outcome by objective. Half of the trials are random, half change one field of one
    of the two worst so far. starts: shapes that are tried too. fixed: fields that every shape has."""
    rng, done = np.random.default_rng([seed, sessions, many]), dict[Shape, Outcome]()

    def drawn(name: str) -> Any:
        choices = CHOICES[name]
        return choices[int(rng.integers(len(choices)))]

    def worst(objective: str, count: int) -> list[Shape]:
        return sorted(done, key=lambda shape: getattr(done[shape], objective))[:count]

    names = [name for name in CHOICES if name not in fixed]
    for start in (replace(shape, **fixed) for shape in (*_STARTS, *starts)):
        done[start] = shop.attack(start, sessions, many)
    drawn_until, trials = len(done) + trials / 2, len(done) + trials
    for trial in range(4 * trials):
        if len(done) >= trials:
            break
        if len(done) < drawn_until:
            shape = Shape(**{**{name: drawn(name) for name in CHOICES}, **fixed})
        else:
            best = worst(OBJECTIVES[trial % len(OBJECTIVES)], 2)
            name = names[int(rng.integers(len(names)))]
            shape = replace(best[int(rng.integers(len(best)))], **{name: drawn(name)})
        if shape not in done:
            done[shape] = shop.attack(shape, sessions, many)
    return {name: (shape := worst(name, 1)[0], done[shape]) for name in OBJECTIVES}


def described(shape: Shape) -> str:
    """Return the fields in which a shape differs from the plainest."""
    plain = Shape()
    parts = [
        f"{item.name}={getattr(shape, item.name)}"
        for item in fields(Shape)
        if item.name in ("target", "before", "filler") or getattr(shape, item.name) != getattr(plain, item.name)
    ]
    return " ".join(parts)  # fmt: skip


def attacked(
    report: Report, shop: Shop, trials: int, seed: int, sessions: Sequence[int] = SESSIONS, ids: int = 33_000
) -> None:
    """Search all attacks of a shop, and add what they reach to the report."""
    honest, on_a = shop.baseline
    name = f"{shop.per_day:,} clicks a day"
    start = ", ".join(f"{unknown} and {visitors}" for unknown, visitors in shop.before)
    report.notes.append(f"{name}: B before: {start}; without an attack {honest:.1%} learned, {on_a:.1%} on A")
    worst: dict[tuple[int, bool, str], dict[str, tuple[Shape, Outcome]]] = {}
    known: dict[bool, list[Shape]] = {False: [], True: []}

    def tried(n: int, many: bool, label: str = "", **fixed: Any) -> None:
        say(f"attacks, {name}, n = {n}, {'n origins' if many else '1 origin'}{label}")
        count = max(4, trials if n <= 100 else trials // 2)
        found = worst[n, many, label] = search(shop, n, many, count, seed, list(dict.fromkeys(known[many])), **fixed)
        known[many] += [shape for shape, _ in found.values()]
        for objective, (shape, outcome) in found.items():
            report.records.append({
                "case": "attack", "clicks_a_day": shop.per_day, "sessions": n, "origins": n if many else 1,
                "trials": count, "only": label, "objective": objective, **asdict(outcome), "shape": asdict(shape),
                "before": [shop.before[shape.item], shop.baseline],
            })  # fmt: skip
            report.notes.append(
                f"{name}, n = {n:,}, {'n origins' if many else '1 origin'}{label}, {objective}: "
                f"{getattr(outcome, objective):.4g}  ({described(shape)})"
            )

    tried(1, False, ", again and again", visits=100, apart=False)
    tried(1, False, ", one visit", visits=1)
    for n in sessions:
        for many in (False, True) if n > 1 else (False,):
            tried(n, many)
    aims = {}
    once = worst[1, False, ", one visit"]
    for objective in OBJECTIVES[:2]:
        best = getattr(once[objective][1], objective)
        found = [each[objective] for (n, _, _), each in worst.items() if n == 1]
        again = min((getattr(outcome, objective) for shape, outcome in found if not shape.apart), default=best)
        aims[f"one id brings B to {again} for {objective} by all that it sends in a gap, by one visit to {best}"] = (
            again >= 0.9 * best - 1
        )
    if 10 in sessions:
        rank = worst[10, False, ""]["unknown"][1].unknown
        aims[f"ten sessions of one origin bring B to {rank} for unknown visitors"] = rank > _FIRST
    for many, objective, whole in ((False, "honest", honest), (True, "honest", honest), (False, "attacked", on_a)):
        outcomes = [found[objective][1] for (_, several, _), found in worst.items() if several == many]
        if outcomes:
            least = min(getattr(outcome, objective) for outcome in outcomes) / whole
            of = f"{objective} clicks, attacks from {'n origins' if many else 'one origin'}"
            aims[f"{least:.1%} of {of}, are learned, next to no attack"] = least >= 0.9
    for many in (False, True):
        cost = shop.invented(ids, many)
        report.records.append({"case": "invented", "clicks_a_day": shop.per_day, "ids": ids, "many": many, **cost})
        of = f"{ids:,} invented ids from {'as many origins' if many else 'one origin'}"
        report.notes.append(
            f"{name}: {of}: catalog {cost['catalog']:,.0f} to {cost['catalog_after']:,.0f}, {cost['MiB']:+.0f} MiB, "
            f"p50 {cost['before_us']:.0f} to {cost['after_us']:.0f} us"
        )
        aims[f"{of}: p50 is {cost['ratio']:.2f} times that without"] = cost["ratio"] <= 1.3
        aims[f"{of}: an honest new item enters with its first session"] = bool(cost["enters"])
    report.notes += [f"{name}: aim {'met' if met else 'NOT met'}: {aim}" for aim, met in aims.items()]
    report.records.append({"case": "aims", "clicks_a_day": shop.per_day, "aims": aims})
    share = shop.learned_by_one_address()
    report.records.append({"case": "proxy", "clicks_a_day": shop.per_day, "learned": share})
    report.notes.append(f"{name}: a day of honest clicks from one address: {share:.1%} learned")


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the search; return the exit status."""
    parser = bench_parser("live.attacks", __doc__, "minutes: the smallest shop, 1 and 10 sessions, 8 trials")
    parser.add_argument("--shops", metavar="N[,N]", help="clicks a day (default: 3700,10000,100000; --quick 3700)")
    parser.add_argument("--trials", type=int, help="of each number of sessions and origins (default: 60; --quick 8)")
    parser.add_argument("--seed", type=int, default=0, help="of visitors and shapes (default: 0)")
    options = parse(parser, argv)
    shops = whole_numbers("--shops", options.shops) if options.shops else SHOPS[: 1 if options.quick else None]
    report = Report("live", options.quick)
    with limit_threads(1), tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        model = trained_shop(Path(folder))
        for per_day in shops:
            shop = Shop(at_rate(model, per_day), per_day, LearningLimits(), options.seed)
            trials = options.trials or (8 if options.quick else 60)
            sessions, ids = (SESSIONS[:2], 2_000) if options.quick else (SESSIONS, 33_000)
            attacked(report, shop, trials, options.seed, sessions, ids)
    return report.finish(options.json)


if __name__ == "__main__":
    raise SystemExit(main())
