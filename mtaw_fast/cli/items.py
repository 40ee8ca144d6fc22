"""`mtaw-fast items`: the item table of a bundle, replaced or patched from a file."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from mtaw_fast.cli.common import add_command, kept_folder, names_in, print_json
from mtaw_fast.cli.learning_options import add_learn_folder, learning_storage
from mtaw_fast.errors import UsageError
from mtaw_fast.items import KINDS, ItemsReport
from mtaw_fast.items.readers import read_change
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender
from mtaw_fast.workflow import change_items


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    example = "mtaw-fast items shop.bundle items.parquet --public title,price --availability in_stock"
    parser = add_command(commands, "items", run, example)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument("source", metavar="FILE", nargs="?", help="the table: Parquet, JSON lines or CSV")
    parser.add_argument(
        "--new", action="store_true", help="change nothing; list how often new items were shown and clicked"
    )
    parser.add_argument(
        "--patch", action="store_true", help="change only the given rows and columns (default: replace the table)"
    )
    add_item_options(parser)
    add_keeping(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Replace or change what a bundle knows about its items."""
    if arguments.new == (arguments.source is not None):
        raise UsageError("give FILE, a table, or --new, to list the new items")
    if arguments.new:
        _list_new(arguments)
        return
    began = time.perf_counter()
    mode: Literal["replace", "patch"] = "patch" if arguments.patch else "replace"
    options = item_options(arguments)
    if arguments.learn is arguments.learn_folder is arguments.state is None:
        report = change_items(arguments.bundle, arguments.source, mode=mode, **options)
        changed = str(arguments.bundle)
    else:
        report = _change_served(arguments, mode, options)
        changed = str(arguments.learn or arguments.state)
    if arguments.json:
        print_json({"changed": changed, **report.as_dict()})
        return
    print("\n".join(report.lines()))
    print(f"changed the item table in {changed} in {time.perf_counter() - began:.1f} s")


def _list_new(arguments: argparse.Namespace) -> None:
    """Print what became of the new items of a bundle, or of the services that learn or keep changes somewhere."""
    with kept_by(arguments) as recommender:
        rows = recommender.new_items()
    if arguments.json:
        print_json({"items": [row._asdict() for row in rows]})
        return
    for row in rows:
        state = "explored" if row.explored else "left exploration"
        print(f"{row.item}: shown {row.displays:,}, clicked {row.clicks:,}, {state}")
    counted = arguments.learn is not None or arguments.state is not None
    hint = "" if counted else ": services count them; name the --learn or --state of yours"
    print(f"{len(rows):,} new items{hint}")


def _change_served(arguments: argparse.Namespace, mode: str, options: dict[str, Any]) -> ItemsReport:
    """Change the table in a log or a state folder."""
    if options.pop("new_since") is not None:
        raise UsageError("--new-since is for a bundle's table: a row is new to services when it comes; leave it out")
    with kept_by(arguments) as recommender:
        change = read_change(arguments.source, recommender.ids.kind, mode, before=recommender.items, **options)
        return recommender.set_items(change.frame, change.mode, public=change.public, availability=change.availability)


def add_keeping(parser: Any) -> None:
    """Add the options that name the log or the folder of services."""
    keeping = parser.add_mutually_exclusive_group()
    keeping.add_argument("--learn", metavar="WHERE", help="instead of the bundle, the services that learn here")
    keeping.add_argument(
        "--state", type=kept_folder, metavar="FOLDER", help="instead of the bundle, the services with this folder"
    )
    add_learn_folder(parser)


@contextmanager
def kept_by(arguments: argparse.Namespace) -> Iterator[Recommender]:
    """Yield a recommender of the bundle with what the services of `add_keeping` keep."""
    learn = None
    if arguments.learn is not None:
        folder, stream = learning_storage(arguments.learn, arguments.learn_folder, arguments.bundle)
        if stream is None and not folder.is_dir():
            raise UsageError(f"--learn {arguments.learn!r} does not exist; name the folder of a service")
        learn = LearningSettings(folder, stream, compact=False)
    elif arguments.learn_folder is not None:
        raise UsageError("--learn-folder goes with --learn; give --learn, or leave --learn-folder out")
    if arguments.state is not None and not arguments.state.is_dir():
        raise UsageError(f"--state {str(arguments.state)!r} does not exist; name the folder of a service, or create it")
    parts = {name: getattr(arguments, name) for name in ("encoder", "index") if name in arguments}
    recommender = Recommender.load(arguments.bundle, learn=learn, state=arguments.state, **parts)
    try:
        yield recommender
    finally:
        recommender.close()


def add_item_options(parser: Any, prefix: str = "") -> None:
    """Add the options that describe a table. prefix: of their names, if the command has other columns too."""
    parser.add_argument(
        f"--{prefix}id", dest="item_id", default="id", metavar="COLUMN", help="column of the item ids (default: id)"
    )
    parser.add_argument(
        f"--{prefix}kind", dest="item_kinds", action="append", default=[], metavar="COLUMN=KIND",
        help=f"kind of a column, one of {', '.join(KINDS)}; repeat for more (default: by its values)",
    )  # fmt: skip
    parser.add_argument(
        "--public", metavar="COLUMN,..",
        help="columns that everybody may read in answers and use in rules (default: those that are public already)",
    )  # fmt: skip
    parser.add_argument(
        "--availability", metavar="COLUMN",
        help="boolean column: items for which it is false are not recommended (default: as before, at first none)",
    )  # fmt: skip
    parser.add_argument(
        "--new-since", metavar="COLUMN",
        help="time column: an item without a click is shown if its date is at most 7 days before the last click of the "
        "training (default: as before, at first the rows that the bundle's table did not have)",
    )  # fmt: skip


def item_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options as keywords of `items.readers.read_change`. Raises UsageError on a kind without a column."""
    kinds = {}
    for pair in arguments.item_kinds:
        name, equals, kind = pair.rpartition("=")
        if not (equals and name):
            raise UsageError(f"{pair!r} is not a column and its kind; write it as category_id=category")
        kinds[name] = kind
    public = names_in(arguments.public)
    return {
        "id": arguments.item_id, "kinds": kinds, "public": public, "availability": arguments.availability,
        "new_since": arguments.new_since,
    }  # fmt: skip
