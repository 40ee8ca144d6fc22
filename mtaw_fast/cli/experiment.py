"""`mtaw-fast experiment`: the arms of an A/B test compared by their feedback."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import UsageError, require
from mtaw_fast.experiment import Question, analyze, read_feedback
from mtaw_fast.experiment.analysis import METRICS, SCALES, UNITS
from mtaw_fast.system.figures import figure

_EARNINGS = {
    "click-through": "clicks of 100 explored positions", "buyers": "purchases of 100 explored positions",
    "value": "value an explored position",
}  # fmt: skip
_HOUR_MS = 3_600_000


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "experiment", run, "mtaw-fast experiment shop.feedback/ --effect 5%")
    parser.add_argument("log", metavar="LOG", help="what 'serve --feedback' was given, or a folder of JSON lines")
    copies = parser.add_mutually_exclusive_group()
    copies.add_argument(
        "--export", type=Path, metavar="FOLDER", help="only write the log as JSON lines, two files a day"
    )
    copies.add_argument(
        "--import", dest="lines", metavar="LINES", help="only add such lines, or those of redis://.., to the file LOG"
    )
    copies.add_argument(
        "--estimate", type=Path, metavar="BUNDLE",
        help="what a bundle would have earned at the explored positions of the log",
    )  # fmt: skip
    parser.add_argument("--metric", choices=METRICS, default="click-through", help="what decides the verdict")
    parser.add_argument(
        "--control", metavar="ARM",
        help="arm to compare the others with (default: the first of --shares, or the one with the largest weight)",
    )  # fmt: skip
    parser.add_argument(
        "--shares", metavar="ARM=WEIGHT,..", type=_shares,
        help="weights of the arms to compare (default: all arms, with their weights in the log)",
    )  # fmt: skip
    parser.add_argument("--placement", metavar="NAME", help="only rankings of this placement (default: all)")
    parser.add_argument(
        "--arms", choices=("bundles", "rules"), default="bundles",
        help="compare bundles, or the rule sets that share the sessions of --placement",
    )  # fmt: skip
    parser.add_argument(
        "--planned", type=int, default=20_000, metavar="N",
        help="planned number of sessions of the whole test; choose it before the first look",
    )  # fmt: skip
    parser.add_argument("--alpha", type=float, default=0.05, help="most probability of a false alarm, over all looks")
    parser.add_argument("--power", type=float, default=0.8, help="wanted probability to find --effect")
    parser.add_argument(
        "--effect", type=_fraction, default=0.05, metavar="PERCENT", help="wanted relative effect (default: 5%%)"
    )
    parser.add_argument("--since", metavar="TIME", help="only rankings from then on, such as 2026-11-01")
    parser.add_argument("--until", metavar="TIME", help="only rankings before then")
    parser.add_argument(
        "--window", type=float, default=24.0, metavar="HOURS",
        help="feedback counts if it comes within this time after its ranking",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Compare the arms of an A/B test by their feedback; look as often as you like."""
    if arguments.export is not None or arguments.lines is not None:
        _copy(arguments)
        return
    if arguments.estimate is not None:
        _other_bundle(arguments)
        return
    question = Question(
        metric=arguments.metric, alpha=arguments.alpha, planned=arguments.planned, power=arguments.power,
        effect=arguments.effect, shares=arguments.shares, control=arguments.control,
    )  # fmt: skip
    since, until, window = _period(arguments)
    by_rules = arguments.arms == "rules"
    if by_rules and arguments.placement is None:
        raise UsageError("--arms rules compares the rule sets of one placement; name it with --placement")
    table = read_feedback(arguments.log, since, until, window, arguments.placement, by_rules)
    result = analyze(table, question).as_dict()
    if arguments.json:
        print_json(result)
        return
    print(result["verdict"])
    for line in _text(result):
        print(line)


def _period(arguments: argparse.Namespace) -> tuple[int | None, int | None, int]:
    """Return --since and --until as Unix milliseconds, and --window in milliseconds."""
    if not 0 < arguments.window < math.inf:
        raise UsageError(f"--window {arguments.window:g} must be above 0 and finite; write hours, such as 24")
    since, until = moment_of("--since", arguments.since), moment_of("--until", arguments.until)
    return since, until, round(arguments.window * _HOUR_MS)


def _other_bundle(arguments: argparse.Namespace) -> None:
    """Print what a bundle would have earned at the explored positions."""
    from mtaw_fast.experiment.drawn import read_draws
    from mtaw_fast.experiment.estimate import estimate
    from mtaw_fast.recommender import Recommender

    if arguments.shares or arguments.control or arguments.arms != "bundles":
        raise UsageError("--estimate compares no arms: leave --shares, --control and --arms out")
    recommender = Recommender.load(arguments.estimate)
    learned_until = recommender.bundle.model.learned_until

    def choose(clicks: Sequence[Any], candidates: Sequence[Any], at: int) -> int | None:
        first = recommender.recommend(clicks, 1, allow=candidates, at=at).items
        return candidates.index(first[0]) if first else None

    since, until, window = _period(arguments)
    log = read_draws(arguments.log, choose, arguments.metric, since, until, window, arguments.placement, learned_until)
    found, scale, words = estimate(log.draws), SCALES[arguments.metric], _EARNINGS[arguments.metric]
    name = arguments.estimate.name
    ends = " to ".join(figure(scale * end) for end in found.difference.interval)
    verdict = (
        f"{name} would have earned {figure(scale * found.estimates[-1].value)} {words}, where "
        f"{figure(scale * found.recorded.value)} were earned: a difference of {figure(scale * found.difference.value)} "
        f"(95% interval {ends}, for one look)."
    )
    left_out = {
        "from before the bundle's last click, whose outcome it may have learned": log.early,
        "of whose candidates the bundle knows none": log.unknown,
        "with one candidate": log.single,
    }
    notes = [f"left out: {count:,} explored positions {why}" for why, count in left_out.items() if count]
    if learned_until is None:
        notes.append("the bundle has no times: make sure that it was trained on nothing from after the first ranking")
    if arguments.json:
        print_json({"verdict": verdict, **asdict(found), "metric": arguments.metric, "notes": notes})
        return
    print(verdict)
    print(f"\n{found.positions:,} explored positions of {found.sessions:,} sessions, {found.effective:,.0f} effective")
    for one in (*found.estimates, found.recorded):
        print(f"{one.name:20} {scale * one.value:8.3f} [{scale * one.interval[0]:.3f}, {scale * one.interval[1]:.3f}]")
    for note in notes:
        print(f"note: {note}")


def _copy(arguments: argparse.Namespace) -> None:
    require("msgspec", "serve")
    from mtaw_fast.experiment.sources import export, import_lines

    if arguments.export is not None:
        counts, where = export(arguments.log, arguments.export), arguments.export
    else:
        counts, where = import_lines(arguments.lines, arguments.log), arguments.log
    print(f"{counts[0]:,} rankings and {counts[1]:,} reports are in {where}")


def _text(result: dict[str, Any]) -> list[str]:
    lines = ["", f"{'arm':24} {'sessions':>9} {'rankings':>9} " + " ".join(f"{metric:>28}" for metric in METRICS)]
    for arm in result["arms"]:
        cells = [_estimate(arm["metrics"][metric]) for metric in METRICS]
        lines.append(
            f"{arm['name']:24.24} {arm['sessions']:9,} {arm['counted']:9,} " + " ".join(f"{cell:>28}" for cell in cells)
        )
    for difference in result["differences"]:
        ends = "too early" if difference["interval"] is None else "{:+.3f} to {:+.3f}".format(*difference["interval"])
        value = "none" if difference["difference"] is None else f"{difference['difference']:+.3f}"
        relative = "" if difference["relative"] is None else f" ({difference['relative']:+.1%})"
        lines.append(
            f"{difference['of']} - {difference['against']}: {value}{relative} {UNITS[difference['metric']]}, {ends}"
        )
    lines += [result["split"], result["power"]]
    return lines + [f"note: {text}" for text in result["notes"]]


def _estimate(metric: dict[str, Any]) -> str:
    if metric["estimate"] is None:
        return "none"
    ends = "" if metric["interval"] is None else " [{:.3f}, {:.3f}]".format(*metric["interval"])
    return f"{metric['estimate']:.3f}{ends}"


def _shares(text: str) -> dict[str, float]:
    """Parse A=.5,B=.5."""
    shares: dict[str, float] = {}
    for pair in text.split(","):
        name, equals, weight = pair.rpartition("=")
        try:
            if not (name and equals) or name in shares:
                raise ValueError
            shares[name] = float(weight)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r}: write ARM=WEIGHT,.. with each arm once, as in old.bundle=.5,new.bundle=.5"
            ) from None
    return shares


def _fraction(text: str) -> float:
    """Parse 5% or 0.05."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; write 5%") from None
    if not value > 0:
        raise UsageError(f"--effect {text} must be above 0")
    return value
