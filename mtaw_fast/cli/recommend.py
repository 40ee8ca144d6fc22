"""`mtaw-fast recommend`: the best items for one session."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import (
    add_command,
    add_ranking_options,
    add_serving_options,
    print_json,
    rules_in,
    typed_ids,
)
from mtaw_fast.cli.items import kept_by
from mtaw_fast.cli.placements import add_asking, placement_note
from mtaw_fast.data.moments import moment_of, text_of, warning_of_age
from mtaw_fast.errors import UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.answer import Reason
from mtaw_fast.ranking.why.exclusions import pin_notes
from mtaw_fast.recommender import Recommender
from mtaw_fast.rules import rule_set_of


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "recommend", run, "mtaw-fast recommend shop.bundle sku-9 sku-4 -k 10")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument("items", nargs="*", metavar="ITEM", help="the session's clicks, oldest first")
    add_ranking_options(parser, "the session's", "now")
    parser.add_argument(
        "--context", action="append", default=[], metavar="COLUMN=VALUE",
        help="what is known of the visit, if the bundle was trained with context; repeat for more columns",
    )  # fmt: skip
    parser.add_argument(
        "--types", metavar="TYPE,..",
        help="types of the clicks, one for each, such as view,cart, if the bundle was trained with types; leave one "
        "empty where it is not known",
    )  # fmt: skip
    parser.add_argument(
        "--explore", type=float, default=0.0, metavar="SHARE",
        help="share of the list for items with fewer than 100 clicks and displays (default: 0)",
    )  # fmt: skip
    add_asking(parser)
    parser.add_argument("--reasons", action="store_true", help="say why each item is listed")
    parser.add_argument("--json", action="store_true", help="print the ranking as JSON")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the items that a session most likely clicks next."""
    with kept_by(arguments) as recommender:
        _recommend(recommender, arguments)


def _recommend(recommender: Recommender, arguments: argparse.Namespace) -> None:
    """Print one ranking with its notes."""
    session = typed_ids(arguments.items, recommender.bundle.ids)
    exclude = typed_ids(arguments.exclude, recommender.bundle.ids)
    rules = rules_in(arguments.rules)
    ranking = recommender.recommend(
        session,
        k=arguments.k,
        exclude=exclude,
        exclude_seen=arguments.exclude_seen,
        at=moment_of("--at", arguments.at),
        context=context_of(arguments.context),
        types=None if arguments.types is None else [kind or None for kind in arguments.types.split(",")],
        reasons=arguments.reasons,
        rules=rules,
        explore=arguments.explore,
        placement=arguments.placement,
        session_id=arguments.session_id,
    )
    at, newest = moment_of("--at", arguments.at), recommender.bundle.model.learned_until
    warning = warning_of_age(recommender.last_click, recommender.bundle.metrics) if at is None else None
    if at is not None and newest is not None and at < newest:
        warning = f"--at is before the newest learned click: it counts as {text_of(newest)}"
    if warning is not None:
        print(f"warning: {warning}", file=sys.stderr)
    if rules is not None:
        own = rule_set_of(rules)
        for note in own.notes(recommender.items or ItemTable(0)) + pin_notes(recommender.catalog, own):
            print(f"note: {note}", file=sys.stderr)
    if (placed := placement_note(recommender, arguments)) is not None:
        print(f"note: {placed}", file=sys.stderr)
    if arguments.json:
        answer = {
            "items": ranking.items,
            "scores": [float(score) for score in ranking.scores],
            "unknown": ranking.unknown,
            "fallback": ranking.fallback,
            "unknown_values": list(ranking.unknown_values),
        }
        if ranking.reasons is not None:
            answer["reasons"] = [_as_json(reason) for reason in ranking.reasons]
        if ranking.short is not None:
            answer["short"] = ranking.short
        if ranking.explored is not None:
            answer["explored"] = ranking.explored.tolist()
        print_json(answer)
        return
    table = recommender.items
    waiting = [item for item in ranking.unknown if table is not None and item in table.waiting.row_of]
    unknown = [item for item in ranking.unknown if item not in waiting]
    for what, items in (("waits for a first click", waiting), ("not in the catalog", unknown)):
        if items:
            print(f"{what}: {', '.join(map(str, items))}")
    if ranking.unknown_values:
        types = recommender.click_types
        known = f"; its types are {', '.join(types)}" if types and arguments.types is not None else ""
        print(f"not known to the bundle: {', '.join(ranking.unknown_values)}{known}")
    if ranking.fallback:
        rising = recommender.bundle.model.trends is not None and (ranking.scores > 0).any()
        print(f"no known click: the {'items that are rising' if rising else 'most popular items'}")
    notes = (
        [""] * len(ranking) if ranking.reasons is None else [f"  ({_in_words(reason)})" for reason in ranking.reasons]
    )
    if ranking.explored is not None and ranking.reasons is None:
        notes = ["  (explored)" if explored else "" for explored in ranking.explored]
    for rank, (item, score, note) in enumerate(zip(ranking.items, ranking.scores, notes, strict=True), 1):
        print(f"{rank:4d}  {score:9.4f}  {item}{note}")
    if ranking.short is not None:
        cause = "the index found" if ranking.short == "candidates" else "the rules leave"
        print(f"{cause} no more than {len(ranking)} items of {arguments.k}")


def _as_json(reason: Reason) -> dict[str, Any]:
    fields: dict[str, Any] = {"kind": reason.kind, "items": list(reason.items)}
    return fields if reason.rule is None else {**fields, "rule": reason.rule}


def context_of(pairs: list[str]) -> dict[str, str] | None:
    """Return the values by column. Raises UsageError on one that is not COLUMN=VALUE."""
    for pair in pairs:
        if "=" not in pair:
            raise UsageError(f"--context {pair} is not COLUMN=VALUE; write one such as referrer=search")
    return dict(pair.split("=", 1) for pair in pairs) or None


def _in_words(reason: Reason) -> str:
    words = {"session": "in the session", "encoder": "by the encoder"}
    text = words.get(reason.kind) or f"clicked together with {', '.join(map(str, reason.items))}"
    return text if reason.rule is None else f"{text}, {reason.rule}"
