"""Options of the commands that read an item table."""

from __future__ import annotations

import argparse
from typing import Any

from mtaw_fast.errors import UsageError
from mtaw_fast.items import KINDS


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
        "--public",
        metavar="COLUMN,..",
        help="columns that everybody may read in answers and use in rules (default: those that are public already)",
    )
    parser.add_argument(
        "--availability", metavar="COLUMN",
        help="boolean column: items for which it is false are not recommended (default: as before, at first none)",
    )  # fmt: skip


def item_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options as keywords of `items.readers.read_change`. Raises UsageError on a kind without a column."""
    kinds = {}
    for pair in arguments.item_kinds:
        name, equals, kind = pair.rpartition("=")
        if not (equals and name):
            raise UsageError(f"{pair!r} is not a column and its kind; write it as category_id=category")
        kinds[name] = kind
    public = None if arguments.public is None else [name for name in arguments.public.split(",") if name]
    return {"id": arguments.item_id, "kinds": kinds, "public": public, "availability": arguments.availability}
