"""`mtaw-fast info`: the contents of a bundle or a data set, and the text form of a log report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS
from mtaw_fast.bundle_page.log_facts import day_rows, log_rows
from mtaw_fast.cli.common import add_command, print_json
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.dataset_files import StoredDataset, read_stored
from mtaw_fast.data.moments import text_of_age, warning_of_age
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.retrieval import ann_file_of
from mtaw_fast.ranking.retrieval.ann_plan import read_entry
from mtaw_fast.ranking.retrieval.first_pass import kept_first_pass
from mtaw_fast.storage.files import read_json

_LONG_METRICS = ("history", "feature_importance", "processor_seconds", "validation_intervals")


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "info", run, "mtaw-fast info shop.bundle")
    parser.add_argument("folder", type=Path, metavar="BUNDLE|DATASET", help="folder made by 'train' or 'prepare'")
    parser.add_argument("--json", action="store_true", help="print the facts as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Describe a bundle or a data set."""
    manifest = read_json(
        arguments.folder / "manifest.json",
        lambda reason: DataError(f"{reason}; name a folder made by prepare or train"),
    )
    kind = manifest.get("format") if isinstance(manifest, dict) else None
    if kind == "mtaw_fast dataset":
        facts = dataset_facts(read_stored(arguments.folder))
    elif kind == "mtaw_fast bundle":
        bundle = Bundle.load(arguments.folder)
        facts = bundle_facts(bundle)
        if (warning := warning_of_age(bundle.model.known_until, bundle.metrics)) is not None:
            print(f"warning: {warning}", file=sys.stderr)
    else:
        raise DataError(f"{arguments.folder} is no bundle or data set; name a folder made by prepare or train")
    if arguments.json:
        print_json(facts)
        return
    log = facts.pop("log", None)
    config = {f"config.{group}": values for group, values in facts.pop("config", {}).items()}
    width = max(map(len, facts | config))
    for name, value in (facts | config).items():
        print(f"{name:{width}}  {_text(value)}")
    if log is not None:
        print("\nthe log\n" + "\n".join(report_lines(log, facts["items"])))


def dataset_facts(dataset: Dataset | StoredDataset) -> dict[str, Any]:
    """Return the counts of the paper's table (samples, items, average length) and how the set was prepared.

    The training parts of a sharded set are read one at a time.
    """
    parts = [dataset.train] if isinstance(dataset, Dataset) else dataset.parts
    tests = _test_lengths(dataset.test)
    trained, clicks = sum(map(len, parts)), sum(part.n_clicks for part in parts)
    facts = {
        "kind": "data set",
        "name": dataset.name,
        "train samples": sum(int(np.maximum(part.lengths - dataset.min_prefix, 0).sum()) for part in parts),
        "test samples": len(dataset.test),
        "items": len(dataset.ids),
        "average session length": round((clicks + sum(tests)) / (trained + len(tests)), 2),
        "train sessions": trained,
        "test sessions": len(tests),
        "shortest prefix": dataset.min_prefix,
        "item ids": dataset.ids.kind,
        "times": times_fact(parts, dataset.test),
        "types": types_fact(parts, dataset.type_names),
        "prepared": {name: value for name, value in dataset.preparation.items() if name not in ("log", "items")},
        "item table": table_facts(dataset.items),
        "reader": dict(dataset.reader) or None,
        "fingerprint": dataset.fingerprint,
        "log": dataset.preparation.get("log"),
    }
    return facts if len(parts) == 1 else {"parts": len(parts), **facts}


def times_fact(parts: Sequence[Sessions], test: Samples) -> dict[str, str] | None:
    """Return the first and last time of the clicks and the splits that have times; None without times."""
    arrays = [part.times for part in parts] + [test.target_times]
    known = [array for array in arrays if array is not None and len(array)]
    if not known:
        return None
    first, last = min(int(array.min()) for array in known), max(int(array.max()) for array in known)
    return {"from": _utc(first), "to": _utc(last), "of": "train and test" if test.target_times is not None else "train"}


def types_fact(parts: Sequence[Sessions], names: Sequence[str]) -> dict[str, int] | None:
    """Return the number of training clicks by type; None without types."""
    counts = np.zeros(len(names), np.int64)
    for part in parts:
        if part.types is None:
            return None
        counts += np.bincount(part.types, minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _utc(milliseconds: int) -> str:
    return f"{np.datetime64(milliseconds, 'ms').astype('datetime64[s]')}Z"


def _test_lengths(test: Samples) -> list[int]:
    """Return the length of each test session: its longest prefix plus the target."""
    lengths: dict[int, int] = {}
    for session, length in zip(test.session.tolist(), test.prefixes.lengths.tolist(), strict=True):
        lengths[session] = max(lengths.get(session, 0), length + 1)
    return list(lengths.values())


def bundle_facts(bundle: Bundle) -> dict[str, Any]:
    """Return the model's size, settings and metrics, the extra parts, and the versions that made the bundle."""
    manifest = bundle.manifest
    return {
        "kind": "bundle",
        "items": len(bundle.ids),
        "item ids": bundle.ids.kind,
        "clicks until": None if bundle.model.known_until is None else text_of_age(bundle.model.known_until),
        "parameters": manifest["parameters"],
        "config": bundle.config.as_dict(),
        "metrics": {name: value for name, value in manifest["metrics"].items() if name not in _LONG_METRICS},
        "dataset": {name: value for name, value in manifest["dataset"].items() if name != "summary"},
        "exact search": search_fact(bundle),
        "index": index_facts(bundle),
        "session memory": memory_facts(bundle),
        "item table": table_facts(bundle.items),
        "onnx": onnx_facts(bundle),
        "versions": manifest["versions"],
        "git commit": manifest["git_commit"],
        "created": manifest["created"],
        "format version": manifest["format_version"],
    }


def search_fact(bundle: Bundle) -> str | None:
    """Return the codes that an exact search reads first on this machine; None without codes, as in a page's bundle."""
    if bundle.scan is None:
        return None
    choice = kept_first_pass(bundle.item_vectors)
    return f"first pass over {choice or 'what the first load measures to be faster here'}"


def index_facts(bundle: Bundle) -> dict[str, Any] | None:
    """Return the approximate index, its two plans and its measured recalls; None without an index."""
    index = ann_file_of(bundle)
    if index is None:
        return None
    plans, recall = read_entry(str(bundle.folder), index.entry)
    return {
        "kind": plans.sessions.kind,
        **plans.sessions.as_dict(),
        "recall@20": recall.sessions,
        "recall@100": recall.sessions_at_100,
        **{f"{name} of similar_items": value for name, value in plans.items.as_dict().items()},
        "recall@20 of similar_items": recall.items,
        "measured on": recall.source,
        "size": index.path.stat().st_size,
    }


def memory_facts(bundle: Bundle) -> dict[str, Any] | None:
    """Return the size of the session memory and the number of ranker features; None without a session memory."""
    if bundle.memory is None or bundle.ranker_net is None:
        return None
    return {
        "sessions": bundle.memory.n_sessions,
        "clicks": len(bundle.memory.session_items),
        "pairs": len(bundle.memory.neighbors),
        "features": len(bundle.ranker_net.features),
        "size": bundle.memory.n_bytes,
    }


def table_facts(table: ItemTable | None) -> dict[str, Any] | None:
    """Return the columns of an item table with their kinds, and how many items are withheld; None without a table."""
    if table is None:
        return None
    columns = {
        name: f"{column.kind}{', public' if column.public else ''}, {np.count_nonzero(~column.missing):,} values"
        for name, column in table.columns.items()
    }
    return {
        "columns": columns,
        "availability": table.availability,
        "not available": 0 if table.unavailable is None else int(np.count_nonzero(table.unavailable)),
        "hidden by hand": len(table.hidden),
        "waiting": len(table.waiting),
        "new": len(table.new),
        "bytes": sum(array.nbytes for array in table.arrays().values()),
    }


def onnx_facts(bundle: Bundle) -> dict[str, Any] | None:
    """Return file, size and measured top-20 overlap of each ONNX graph; None without graphs."""
    entry = bundle.manifest.get("onnx")
    if entry is None:
        return None
    facts = {}
    for (graph, variant), part in GRAPH_PARTS.items():
        file = bundle.file(part)
        if file is not None:
            record = entry["variants"][variant]
            facts[part] = {"file": file.name, "bytes": record["bytes"][graph], "overlap": record["parity"]["overlap"]}
    return facts


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_text(entry)}" for name, entry in value.items())
    if value is None:
        return "none"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if value >= 1 else f"{value:g}"


_BARS = 28  # most rows of the chart
_WIDTH = 40  # characters of the longest bar
_PARTS = " ▏▎▍▌▋▊▉█"  # eighths of a character


def report_lines(log: Mapping[str, Any], n_items: int) -> list[str]:
    """Return the lines that describe a `LogReport.as_dict()`, warnings last. n_items: in the catalog."""
    lines = [f"{name:12} {text}" for name, text in log_rows(log, n_items).items()]
    if log["days"]:
        lines += ["clicks per day (UTC)", *day_bars(log["days"])]
    return [*lines, *(f"warning: {text}" for text in log["warnings"])]


def day_bars(days: Mapping[str, int]) -> Iterator[str]:
    """Yield the rows of a bar chart: one per day, or per several days with their daily mean; a long gap is one row."""
    rows = day_rows(days, _BARS)
    largest = max(row.mean for row in rows)
    for row in rows:
        if row.gap:
            yield f"  .. {row.gap:,} days without a click"
        eighths = round(8 * _WIDTH * row.mean / largest)
        bar = _PARTS[-1] * (eighths // 8) + (_PARTS[eighths % 8] if eighths % 8 else "")
        yield f"  {row.first} {bar or ('▏' if row.mean else '')} {row.mean:,.0f}"
