"""The item table: size and load time, and the time from a change to the answers of all workers.

python -m bench.serving.item_table [--quick] [--items N] [--changes N] [--bundle BUNDLE] [--json FILE]
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.report import Line, Report, bench_parser, exit_code_of, parse
from bench.serving.inputs import catalog_bundle
from bench.serving.service_process import Service
from mtaw_fast.errors import MtawError, require
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.tensor_file import map_tensors, open_sealed_tensors, write_tensors

_ITEMS, _SERVED, _CHANGES = 1_000_000, 10_000, 200
_CACHE = Path("build/bench-serving")
_TOKEN = "bench"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status."""
    parser = bench_parser("serving.item_table", (__doc__ or "").splitlines()[0], "a minute: 10,000 items, 20 changes")
    parser.add_argument("--items", type=int, metavar="N", help=f"rows of the table (default: {_ITEMS:,})")
    parser.add_argument("--changes", type=int, metavar="N", help=f"changes to time (default: {_CHANGES})")
    parser.add_argument(
        "--bundle", type=Path, help=f"the bundle to serve (default: a generated one of {_SERVED:,} items)"
    )
    try:
        options = parse(parser, argv)
        for package in ("psutil", "uvicorn"):
            require(package, "bench")
        return _run(options)
    except MtawError as error:
        return exit_code_of(error)


def _run(options: argparse.Namespace) -> int:
    report = Report("serving.item_table", options.quick)
    items = options.items or (10_000 if options.quick else _ITEMS)
    changes = options.changes or (20 if options.quick else _CHANGES)
    with tempfile.TemporaryDirectory() as folder:
        _measure_table(report, items, Path(folder))
        bundle = options.bundle or catalog_bundle(_SERVED, _CACHE, lambda text: print(f"{text} ..", file=sys.stderr))
        times = _change_times(bundle, changes, Path(folder))
    params = {"workers": 2, "changes": changes}
    for name, share in (("p50", 50), ("p99", 99)):
        value = float(np.percentile(times, share))
        report.lines.append(Line.of_value("serving.item_table", "change", params, f"{name}_ms", value))
    return report.finish(options.json)


def _measure_table(report: Report, items: int, folder: Path) -> None:
    """Write and load a table with 4 numbers, 3 categories, 2 booleans and a title of 40 bytes."""
    table = _table(items)
    path = folder / "table.safetensors"
    write_tensors(path, table.arrays())
    began = time.perf_counter()
    file = open_sealed_tensors(path, mapping="copy")  # as a worker does that starts first
    hashlib.sha256(file.data.data).hexdigest()
    loaded = ItemTable.of(map_tensors(file))
    seconds = time.perf_counter() - began
    rows = np.array([0, items - 1])
    if loaded.values_at(loaded.columns, rows) != table.values_at(table.columns, rows):
        report.refuse("the loaded table differs from the written one")
    params = {"items": items}
    size = path.stat().st_size / 1e6
    report.lines.append(Line.of_value("serving.item_table", "size", params, "MB", size))
    report.lines.append(Line.of_value("serving.item_table", "load", params, "ms", 1000 * seconds))


def _table(items: int) -> ItemTable:
    rng = np.random.default_rng(0)
    data: dict[str, Any] = {"id": np.arange(items)}
    data |= {f"number{column}": rng.normal(size=items) for column in range(4)}
    data |= {f"category{column}": [f"label {code}" for code in rng.integers(0, 500, items)] for column in range(3)}
    data |= {f"boolean{column}": rng.random(items) < 0.5 for column in range(2)}
    data["title"] = [f"Title {number:034d}" for number in rng.permutation(items)]
    return ItemTable(items).replaced(ItemFrame.of(data, kinds={"title": "text"}), np.arange(items), items)


def _change_times(bundle: Path, changes: int, folder: Path) -> list[float]:
    """Return for each change the milliseconds from its request until every worker answers with it."""
    item = Recommender.load(bundle).ids.external(np.zeros(1, dtype=np.int32))[0]
    options = ["--state", str(folder / "state")]
    with Service(bundle, folder / "log", 2, options, environment={"MTAW_ADMIN_TOKEN": _TOKEN}) as service:
        workers = _connections(service)
        _ask(workers[0], "PUT", "/admin/items", {"items": [{"id": item, "price": -1}], "public": ["price"]})
        times = []
        for number in range(changes):
            began = time.perf_counter()
            _ask(workers[0], "PATCH", "/admin/items", {"items": [{"id": item, "price": number}]})
            request = {"session": [item], "k": 1, "allow": [item], "fields": ["price"]}
            for connection in workers:
                while _ask(connection, "POST", "/v1/recommend", request).get("fields") != [{"price": float(number)}]:
                    time.sleep(0.001)
            times.append(1000 * (time.perf_counter() - began))
    return times


def _connections(service: Service) -> list[http.client.HTTPConnection]:
    """Return several connections; the kernel spreads them over both workers."""
    return [http.client.HTTPConnection(*service.address, timeout=30) for _ in range(8)]


def _ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any) -> Any:
    connection.request(method, path, json.dumps(body), {"Authorization": f"Bearer {_TOKEN}"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    # A worker that has not seen the first table does not know the column yet.
    if response.status != 200 and answer["error"]["code"] != "unknown_field":
        raise MtawError(f"{method} {path} answered {response.status}: {answer}")
    return answer


if __name__ == "__main__":
    raise SystemExit(main())
