"""Tables read by Ray Data in pieces of our own choosing: a read task each, and a piece stays one block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mtaw_fast.errors import require


def read_pieces(pieces: Sequence[tuple[int, Callable[[], Any]]], **task: Any) -> Any:
    """A Ray data set of pieces: (rows, a function that reads them as an Arrow table), each read by a task of its own.

    task: what a read task asks for, such as num_cpus, and how many run at a time (concurrency).
    """
    data: Any = require("ray.data", "ray")
    context = data.DataContext.get_current()
    context.target_max_block_size = None  # a piece stays one block, however large
    context.enable_progress_bars = False
    metadata = require("ray.data.block", "ray").BlockMetadata

    class Pieces(data.Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, *_: Any, **__: Any) -> list[Any]:
            return [
                data.ReadTask(
                    _reading(read), metadata(num_rows=rows, size_bytes=None, input_files=None, exec_stats=None)
                )
                for rows, read in pieces
            ]

    return data.read_datasource(Pieces(), override_num_blocks=len(pieces), **task)


def _reading(read: Callable[[], Any]) -> Callable[[], Iterator[Any]]:
    def read_one() -> Iterator[Any]:
        yield read()

    return read_one
