"""`mtaw-fast prepare`: make a data set folder from a click log or a published data set."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mtaw_fast.cli.common import add_command, print_json, progress_bar
from mtaw_fast.cli.info import dataset_facts, report_lines
from mtaw_fast.cli.items import add_item_options, item_options
from mtaw_fast.data.dataset import Dataset, write_item_table
from mtaw_fast.data.dataset_files import StoredDataset, read_stored
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.readers.partitioned_prepare import PARTITION_ROWS, prepare_in_partitions
from mtaw_fast.data.readers.sources import is_url, open_part, part_files
from mtaw_fast.errors import DataWarning, UsageError, require
from mtaw_fast.integrations.cluster import HERE
from mtaw_fast.integrations.ray_prepare import prepare_on_ray
from mtaw_fast.items.readers import read_change
from mtaw_fast.items.report import table_lines
from mtaw_fast.workflow import prepare, read_items

_TYPE_NAMES = ("event", "event_name", "event_type", "type", "action")
_FORMATS = ("clicks", "npz", "pickle", "retailrocket", "tmall")
_HELP = {
    "session": "column of the session id (default: session_id)",
    "user": "column of the user id; sessions are then cut by --gap, and --session is not read (default: none)",
    "gap": "seconds without a click after which the user's next click starts a new session (default: 1800)",
    "item": "column of the item id (default: item_id)",
    "time": "column of the time: a number counted from 1970, ISO-8601 text (UTC unless it names an offset or a zone), "
    "or a datetime (default: timestamp)",
    "type": "column of the event type, kept with every click (default: none)",
    "types": "comma-separated event types that count as clicks, such as view (default: all)",
    "context": "comma-separated columns of what is known of a visit, such as referrer,region: the ranker counts "
    "what is popular within each value (default: none)",
    "time_unit": "unit of numeric times: auto, s, ms, us or ns; auto decides by their size (default: auto)",
    "separator": "column separator of CSV (default: tab for .tsv and .tab, else comma)",
    "bad_rows": "refuse a log with unreadable rows, or skip those rows (default: refuse)",
    "dedupe": "remove a click if the same session (or user) clicked the same item with the same type at most this many "
    "seconds before; 0: at the same time (default: none is removed)",
    "since": "keep clicks from this time on, ISO-8601 or Unix milliseconds (default: all)",
    "until": "keep clicks before this time (default: all)",
    "merge_types": "make one click of view, cart and purchase of one item in a row: it has the time of the first and "
    "the type of the last one, or of the last in the order of --types (default: every event is a click)",
    "min_session": "fewest clicks of a session (default: 2)",
    "max_session": "most clicks of a session, or none for no limit; longer sessions, mostly bots, are left out "
    "(default: 500)",
    "min_support": "fewest clicks of an item (default: 5)",
    "support_rounds": "apply the support filter once, or until-stable (default: once)",
    "test_days": "sessions that end in this last time are the test split; 0: no test split (default: 7)",
    "min_prefix": "shortest prefix that is a sample; formats clicks and pickle (default: 1)",
}
_UNSET = object()  # not None: `--max-session none` is a valid value


def _clicks_or_none(text: str) -> int | None:
    try:
        return None if text == "none" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of clicks; write 500, or none") from None


_METAVARS = {
    **dict.fromkeys(("session", "user", "item", "time", "type"), "COLUMN"),
    "types": "TYPE,..",
    "context": "COLUMN,..",
    "separator": "CHARACTER",
    "gap": "SECONDS",
    "dedupe": "SECONDS",
    **dict.fromkeys(("since", "until"), "TIME"),
    "test_days": "DAYS",
}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    example = "mtaw-fast prepare clicks clicks.csv shop.dataset --session visit --item sku --time at"
    parser = add_command(commands, "prepare", run, example)
    parser.add_argument("format", metavar="FORMAT", help=", ".join(_FORMATS))
    parser.add_argument(
        "source", metavar="SOURCE",
        help="file or folder; for clicks (CSV, Parquet, JSON lines) also a glob pattern or an s3://, gs:// or az:// "
        "URL",
    )  # fmt: skip
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="folder to write")
    parser.add_argument("--name", help="name of the data set (default: from the source)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing data set")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    large = parser.add_argument_group("logs larger than memory (format clicks); the data is the same to the bit")
    large.add_argument(
        "--partitions", type=int, metavar="N",
        help="split the log by session into N parts on disk and prepare them one after the other; more parts need less "
        f"memory (default with --ray: one part per {PARTITION_ROWS:,} rows)",
    )  # fmt: skip
    large.add_argument(
        "--ray", nargs="?", const=HERE, metavar="ADDRESS",
        help="prepare the parts on a Ray cluster: HOST:PORT, ray://HOST:PORT or auto; without ADDRESS, start Ray on "
        "this host. Every host of the cluster must see the same paths",
    )  # fmt: skip
    table = parser.add_argument_group("what is known about the items (docs/items.md)")
    table.add_argument("--items", metavar="FILE", help="the item table: Parquet, JSON lines or CSV (default: none)")
    add_item_options(table, "item-")
    options = parser.add_argument_group("click logs (format clicks)")
    hints = get_type_hints(ClickOptions)
    for name, text in _HELP.items():
        flag, hint = f"--{name.replace('_', '-')}", hints[name]
        if hint is bool:
            options.add_argument(flag, action="store_true", default=_UNSET, help=text)
        elif get_origin(hint) is Literal:
            options.add_argument(flag, choices=get_args(hint), default=_UNSET, help=text)
        else:
            kind = next((kind for kind in (int, float) if hint in (kind, kind | None)), str)
            options.add_argument(
                flag, type=_clicks_or_none if name == "max_session" else kind, metavar=_METAVARS.get(name, "N"),
                default=_UNSET, help=text,
            )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Make a data set folder from a click log (clicks, retailrocket, tmall) or from packed sessions (npz, pickle)."""
    _check_texts(arguments)
    _refuse_without_table(arguments)
    options = {name: getattr(arguments, name) for name in _HELP if getattr(arguments, name) is not _UNSET}
    for name in ("types", "context"):
        if name in options:
            options[name] = tuple(options[name].split(","))
    if arguments.ray is not None or arguments.partitions is not None:
        dataset: Dataset | StoredDataset = _in_parts(arguments, options)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # they are printed below
            dataset = prepare(
                arguments.source,
                arguments.dataset,
                format=arguments.format,
                name=arguments.name,
                overwrite=arguments.overwrite,
                items=arguments.items,
                item_options=item_options(arguments),
                **options,
            )
    if arguments.format == "clicks" and options.get("type") is None:
        _warn_of_unread_types(arguments.source, ClickOptions(**options))
    facts = dataset_facts(dataset)
    if arguments.json:
        print_json({"dataset": str(arguments.dataset), **facts})
        return
    print(
        f"wrote {arguments.dataset}: {facts['train samples']:,} train and {facts['test samples']:,} test samples, "
        f"{facts['items']:,} items" + (f", in {facts['parts']} parts" if "parts" in facts else "")
    )
    if facts["log"]:
        print("\n".join(report_lines(facts["log"], facts["items"])))
    if dataset.items is not None:
        print("\n".join(["the item table", *table_lines(dataset.preparation["items"])]))


def _warn_of_unread_types(source: Any, options: ClickOptions) -> None:
    """Print a warning if a column of the log looks like that of event types, which would all count as clicks."""
    _, schema, _ = open_part(part_files(source, options.columns)[0], options)
    for name in schema:
        if name.lower() in _TYPE_NAMES and name not in options.columns:
            print(
                f"warning: column {name!r} is not read, so each of its rows counts as a click; --type {name} tells "
                "views from purchases", file=sys.stderr,
            )  # fmt: skip


def _refuse_without_table(arguments: argparse.Namespace) -> None:
    """Raise UsageError on an option that describes an item table, without --items."""
    given = {
        "--item-id": arguments.item_id != "id", "--item-kind": arguments.item_kinds, "--public": arguments.public,
        "--availability": arguments.availability, "--new-since": arguments.new_since,
    }  # fmt: skip
    for flag, value in given.items():
        if value and arguments.items is None:
            raise UsageError(f"{flag} describes the table of --items; give --items FILE, or leave {flag} out")


def _check_texts(arguments: argparse.Namespace) -> None:
    """Raise UsageError on a path, name or column that is not UTF-8: the manifest cannot store it."""
    for name, value in vars(arguments).items():
        try:
            str(value).encode()
        except UnicodeEncodeError:
            label = name.upper() if name in ("format", "source", "dataset") else f"--{name.replace('_', '-')}"
            raise UsageError(f"{label} {str(value)!r} is not UTF-8 text; give another name") from None


def _in_parts(arguments: argparse.Namespace, option_values: dict[str, Any]) -> StoredDataset:
    """Make a sharded data set, in this process or on Ray."""
    if arguments.format != "clicks":
        option = "--ray" if arguments.ray is not None else "--partitions"
        raise UsageError(f"{option} works only with the format clicks")
    require("pyarrow", "score")
    source = arguments.source if is_url(arguments.source) else Path(arguments.source)
    common: dict[str, Any] = {"overwrite": arguments.overwrite, "partitions": arguments.partitions}
    options = ClickOptions(**option_values)
    if arguments.items is not None:  # what is wrong with the table is said before the log is read: that takes long

        def check_ids(kind: str) -> None:
            read_change(arguments.items, kind, **item_options(arguments))

        check_ids("str")
        common["check_ids"] = check_ids
    with progress_bar(not arguments.json) as bar:
        common["progress"] = bar or (lambda *_: None)
        if arguments.ray is None:
            prepare_in_partitions(source, arguments.dataset, options, arguments.name, **common)
        else:
            prepare_on_ray(source, arguments.dataset, options, arguments.name, address=arguments.ray, **common)
    dataset = read_stored(arguments.dataset)
    if arguments.items is not None:
        table, report = read_items(dataset.ids, arguments.items, item_options(arguments), dataset.parts)
        write_item_table(arguments.dataset, table, report.as_dict())
        dataset = read_stored(arguments.dataset)
    return dataset
