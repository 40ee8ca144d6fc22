"""Write a synthetic click log as CSV or Parquet: `python -m mtaw_fast.data.synthetic_log clicks.csv --items 3000`."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import draw_sessions
from mtaw_fast.data.synthetic_types import TYPES, draw_typed_sessions
from mtaw_fast.errors import require
from mtaw_fast.storage.files import atomic_path

_BEGIN = 1_700_000_000  # seconds since 1970
_DAY = 86_400
_BETWEEN_CLICKS = 30
_COLUMNS = ("session_id", "item_id", "timestamp")
_BLOCK = 1 << 19  # sessions written at a time


def write_click_log(
    path: Path,
    n_items: int,
    n_sessions: int,
    seed: int,
    days: float = 30.0,
    renewed: float = 0.0,
    typed: bool = False,
) -> int:
    """Write the clicks of `synthetic.generate`, spread over `days`; return their number.

    Columns: session_id, item_id ('item-1', ..), timestamp (seconds since 1970). Rows are in order of sessions. A path
    that ends in .parquet becomes Parquet, any other CSV. renewed: share of the items that new ones replace each day,
    with the popularity and the successors of those. typed: clicks are views, carts and purchases, by
    `synthetic_types`, in a fourth column `type`.
    """
    draw = draw_typed_sessions if typed else draw_sessions
    sessions = draw(n_items, n_sessions, seed)
    step = days * _DAY / max(n_sessions, 1)
    if renewed:
        day = (np.arange(n_sessions) * step // _DAY).astype(np.int64)
        names = _names_by_day(n_items, int(day.max(initial=0)) + 1, renewed, seed)
        items = names[np.repeat(day, sessions.lengths), sessions.items]
        sessions = Sessions(items.astype(np.int32), sessions.offsets, None, sessions.types)
    with atomic_path(path) as temporary:
        (_write_parquet if path.suffix == ".parquet" else _write_csv)(temporary, sessions, step)
    return sessions.n_clicks


def _names_by_day(n_items: int, days: int, renewed: float, seed: int) -> np.ndarray:
    """int64[days, N]: which item is meant, each day."""
    generator, count = np.random.default_rng([seed, 4]), round(renewed * n_items)
    names = np.tile(np.arange(n_items), (days, 1))
    for day in range(1, days):
        names[day] = names[day - 1]
        names[day, generator.permutation(n_items)[:count]] = n_items + (day - 1) * count + np.arange(count)
    return names


def _blocks(sessions: Sessions, step: float) -> Iterator[list[np.ndarray]]:
    """Yield session numbers, items, times and types, if there are any (int64[T'] each), block by block. step: seconds
    between session starts."""
    for begin in range(0, len(sessions), _BLOCK):
        block = sessions.slice(begin, begin + _BLOCK)
        numbers = np.repeat(np.arange(begin, begin + len(block)), block.lengths)
        positions = np.arange(block.n_clicks) - np.repeat(block.offsets[:-1] - block.offsets[0], block.lengths)
        times = _BEGIN + (numbers * step).astype(np.int64) + _BETWEEN_CLICKS * positions
        columns = [numbers, block.items.astype(np.int64), times]
        yield columns if block.types is None else [*columns, block.types.astype(np.int64)]


def _write_csv(path: Path, sessions: Sessions, step: float) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        log = csv.writer(stream)
        log.writerow(_columns(sessions))
        for numbers, items, times, *types in _blocks(sessions, step):
            rows = zip(numbers.tolist(), items.tolist(), times.tolist(), strict=True)
            lines = [f"{number},item-{item + 1},{time}" for number, item, time in rows]
            if types:
                lines = [f"{line},{TYPES[code]}" for line, code in zip(lines, types[0].tolist(), strict=True)]
            stream.writelines([f"{line}\r\n" for line in lines])


def _write_parquet(path: Path, sessions: Sessions, step: float) -> None:
    pa, parquet = require("pyarrow", "score"), require("pyarrow.parquet", "score")
    names = pa.array([f"item-{item + 1}" for item in range(int(sessions.items.max(initial=-1)) + 1)])
    kinds = (pa.int64(), names.type, pa.int64(), pa.string())
    schema = pa.schema([pa.field(name, kind) for name, kind in zip(_columns(sessions), kinds, strict=False)])
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for numbers, items, times, *types in _blocks(sessions, step):
            type_columns = [pa.array(TYPES).take(pa.array(codes)) for codes in types]
            writer.write_table(pa.table([numbers, names.take(pa.array(items)), times, *type_columns], schema=schema))


def _columns(sessions: Sessions) -> tuple[str, ...]:
    return _COLUMNS if sessions.types is None else (*_COLUMNS, "type")


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m mtaw_fast.data.synthetic_log", description="Write a synthetic click log."
    )
    parser.add_argument("path", type=Path, help="file to write: Parquet if it ends in .parquet, else CSV")
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument(
        "--renewed", type=float, default=0.0, metavar="SHARE", help="of the items that new ones replace each day"
    )
    parser.add_argument("--types", action="store_true", help="add a column of types: view, cart and purchase")
    arguments = parser.parse_args(argv)
    clicks = write_click_log(
        arguments.path, arguments.items, arguments.sessions, arguments.seed, arguments.days, arguments.renewed,
        arguments.types,
    )  # fmt: skip
    print(f"wrote {arguments.path}: {clicks:,} clicks")


if __name__ == "__main__":
    main()
