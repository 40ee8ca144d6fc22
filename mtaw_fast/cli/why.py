"""`mtaw-fast why`: why items are listed or not, and what a change of the call would move."""

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
from mtaw_fast.cli.recommend import context_of
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import UsageError
from mtaw_fast.recommender import Recommender


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "why", run, "mtaw-fast why shop.bundle --session sku-9 sku-4 --item sku-1")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument(
        "--session", nargs="*", default=[], metavar="ITEM", help="the session's clicks, oldest first (default: none)"
    )
    parser.add_argument(
        "--item", nargs="+", default=[], metavar="ITEM", help="items to explain (default: those of the list)"
    )
    add_ranking_options(parser, "the session's", "now")
    parser.add_argument(
        "--context", action="append", default=[], metavar="COLUMN=VALUE", help="what is known of the visit"
    )
    parser.add_argument("--types", metavar="TYPE,..", help="types of the clicks, as of 'recommend'")
    parser.add_argument("--explore", type=float, default=0.0, metavar="SHARE", help="as of 'recommend' (default: 0)")
    add_asking(parser)
    what_if = parser.add_argument_group("what if", "compare the list with that of the same call after a change")
    what_if.add_argument("--without", action="append", default=[], metavar="ITEM", help="without the clicks on it")
    what_if.add_argument("--other-rules", metavar="FILE", help="with these rules; {} for none")
    what_if.add_argument("--other-at", metavar="TIME", help="at another time")
    what_if.add_argument("--other-bundle", type=Path, metavar="BUNDLE", help="by another bundle")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_serving_options(parser)


def run(arguments: argparse.Namespace) -> None:
    """Say why items are in a session's list or what keeps them out, or what a change would move."""
    with kept_by(arguments) as recommender:
        _explain(recommender, arguments)


def _explain(recommender: Recommender, arguments: argparse.Namespace) -> None:
    """Print the explanations, or what a change moves."""
    if (note := placement_note(recommender, arguments)) is not None:
        print(f"note: {note}", file=sys.stderr)
    ids = recommender.bundle.ids
    session = typed_ids(arguments.session, ids)
    call: dict[str, Any] = {
        "k": arguments.k,
        "exclude": typed_ids(arguments.exclude, ids),
        "exclude_seen": arguments.exclude_seen,
        "at": moment_of("--at", arguments.at),
        "context": context_of(arguments.context),
        "types": None if arguments.types is None else [kind or None for kind in arguments.types.split(",")],
        "rules": rules_in(arguments.rules),
        "explore": arguments.explore,
        "placement": arguments.placement,
        "session_id": arguments.session_id,
    }
    change: dict[str, Any] = {}
    if arguments.without:
        change["without"] = typed_ids(arguments.without, ids)
    if arguments.other_rules is not None:
        change["rules"] = rules_in(arguments.other_rules)
    if arguments.other_at is not None:
        change["at"] = moment_of("--other-at", arguments.other_at)
    other = None
    if arguments.other_bundle is not None:
        if arguments.learn is not None:
            raise UsageError("--other-bundle: the log of --learn is that of BUNDLE; leave one of the two out")
        other = Recommender.load(
            arguments.other_bundle, encoder=arguments.encoder, index=arguments.index, state=arguments.state
        )
    if change or other is not None:
        moved = recommender.what_if(session, change=change, other=other, **call)
        print_json(moved.as_json()) if arguments.json else print(moved)
        if other is not None:
            other.close()
        return
    items = typed_ids(arguments.item, ids) or recommender.why(session, [], **call).answer.items
    why = recommender.why(session, items, **call)
    if arguments.json:
        print_json([explanation.as_json() for explanation in why.items])
    else:
        print(why)
