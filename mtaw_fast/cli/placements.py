"""`mtaw-fast placements`: the rule sets by placement that services keep, with their history."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, json_in, print_json
from mtaw_fast.cli.items import add_keeping, kept_by
from mtaw_fast.data.moments import moment_of, text_of
from mtaw_fast.errors import UsageError
from mtaw_fast.recommender import Recommender


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    example = "mtaw-fast placements shop.bundle cart --state shop.state --set cart.json"
    parser = add_command(commands, "placements", run, example)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one placement, with its history (default: all)")
    changing = parser.add_mutually_exclusive_group()
    changing.add_argument(
        "--set", metavar="FILE", help="set its rules: JSON, or a file of it (docs/how-to/placements.md)"
    )
    changing.add_argument("--undo", type=int, metavar="N", help="put revision N back")
    changing.add_argument("--remove", action="store_true", help="remove it with its history")
    add_keeping(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    """List the placements of services, or set the rules of one; the services follow within a second."""
    name = arguments.name
    changes = arguments.remove or arguments.undo is not None or arguments.set is not None
    if changes and (name is None or arguments.state is arguments.learn is None):
        raise UsageError("name the placement to change, and with --state or --learn the services that keep it")
    notes: list[str] = []
    with kept_by(arguments) as recommender:
        if arguments.remove:
            recommender.set_placement(name, None)
        elif arguments.undo is not None:
            notes = recommender.undo_placement(name, arguments.undo)
        elif arguments.set is not None:
            notes = recommender.set_placement(name, json_in("--set", arguments.set))
        kept, broken = recommender.placements, recommender.broken_placements
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if name is not None:
        if name not in kept and not arguments.remove:
            raise UsageError(f"there is no placement {name!r}; there are: {', '.join(sorted(kept)) or 'none'}")
        kept = {name: kept.get(name, ())}
    else:
        kept = {each: revisions[-1:] for each, revisions in sorted(kept.items())}
    if arguments.json:
        shown = {each: [one._asdict() for one in revisions] for each, revisions in kept.items()}
        print_json({"placements": shown, "broken": broken})
        return
    for each, revisions in kept.items():
        for one in revisions:
            sets = ", ".join(_text(number, entry) for number, entry in enumerate(one.content["sets"], start=1))
            print(f"{each} {one.number}  {text_of(one.time)}  {sets or 'no rules'}")
        if each in broken:
            print(f"broken: {broken[each]}")


def add_asking(parser: Any) -> None:
    """Add --placement and --session-id, and the options that name the services that keep the placements."""
    group = parser.add_argument_group("placements (docs/how-to/placements.md)")
    group.add_argument("--placement", metavar="NAME", help="where the list will stand, such as cart: its rules apply")
    group.add_argument("--session-id", metavar="ID", help="the session's id, which rule sets share the sessions by")
    add_keeping(group)


def placement_note(recommender: Recommender, arguments: argparse.Namespace) -> str | None:
    """Return which rule set --placement gives, in a line; None without the option."""
    name = arguments.placement
    if name is None:
        if arguments.session_id is not None:
            raise UsageError("--session-id decides among rule sets of a placement; name it with --placement")
        return None
    at = moment_of("--at", arguments.at)
    placed = recommender.catalog.placements.placed(name, at, arguments.session_id)
    rules = f"the rule set {placed.name!r}" if placed.name else "no rules"
    if placed.known:
        return f"placement {name!r} has {rules} for this call"
    kept = ", ".join(sorted(recommender.placements)) or "none"
    return f"there is no placement {name!r} here, so it gets {rules}; there are: {kept}; name services with --state"


def _text(number: int, entry: Any) -> str:
    bounds = [f"{key} {entry[key]}" for key in ("from", "until", "share") if entry.get(key) is not None]
    return " ".join([entry.get("name", f"set-{number}"), *bounds])
