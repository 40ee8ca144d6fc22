"""`mtaw-fast prepare`: from a click log or a published data set to a data set folder."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.cli.info import dataset_facts
from mtaw_fast.data.dataset import refuse_existing
from mtaw_fast.errors import UsageError

_HELP = {
    "session": "column of the session id",
    "user": "column of the user id; sessions are then made by --gap instead of --session",
    "gap": "seconds without a click after which a user's next click starts a session",
    "item": "column of the item id",
    "time": "column of the time: seconds or milliseconds since 1970, or ISO-8601 text",
    "type": "column of the event type, kept with every click",
    "types": "comma-separated event types that count as clicks, such as view (default: all)",
    "time_unit": "s or ms since 1970, or auto",
    "separator": "of CSV (default: tab for .tsv and .tab, else comma)",
    "min_session": "fewest clicks of a session",
    "max_session": "most clicks of a session; longer ones are left out",
    "min_support": "fewest clicks of an item",
    "support_rounds": "apply the support filter once, or until-stable",
    "test_days": "sessions of the last so many days are test",
    "min_prefix": "shortest prefix that is a sample (clicks and pickle)",
}
_KINDS = {
    "max_session": int,
    "min_session": int,
    "min_support": int,
    "min_prefix": int,
    "gap": float,
    "test_days": float,
}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "prepare",
        run,
        "Make a data set folder from a click log (clicks, retailrocket, tmall) or a published form (npz, pickle).",
        "mtaw-fast prepare clicks clicks.csv shop.dataset --session visit --item sku --time at",
    )
    parser.add_argument("format", metavar="FORMAT", help="clicks, npz, pickle, retailrocket or tmall")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file or folder (clicks: a glob pattern, too)")
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder to write")
    parser.add_argument("--name", help="of the data set (default: from the source)")
    parser.add_argument("--json", action="store_true")
    options = parser.add_argument_group("click logs (format clicks)")
    for name, text in _HELP.items():
        options.add_argument("--" + name.replace("_", "-"), type=_KINDS.get(name, str), metavar="X", help=text)


def run(arguments: argparse.Namespace) -> None:
    """Read the source, write the folder, print its counts."""
    from mtaw_fast.data import readers

    refuse_existing(arguments.dataset)
    given = {name: getattr(arguments, name) for name in _HELP if getattr(arguments, name) is not None}
    if "types" in given:
        given["types"] = tuple(given["types"].split(","))
    options, min_prefix = None, None
    if arguments.format == "clicks":
        options = dataclasses.replace(readers.ClickOptions(), **given)
    else:
        min_prefix = given.pop("min_prefix", None)
        if given:
            raise UsageError(f"--{next(iter(given)).replace('_', '-')} goes with the format clicks alone")
    dataset = readers.read(
        arguments.format, arguments.source, options=options, min_prefix=min_prefix, name=arguments.name
    )
    dataset.save(arguments.dataset)
    facts = dataset_facts(dataset)
    if arguments.json:
        print_json({"dataset": str(arguments.dataset), **facts})
        return
    print(
        f"wrote {arguments.dataset}: {facts['train samples']:,} train and {facts['test samples']:,} test samples, "
        f"{facts['items']:,} items"
    )
