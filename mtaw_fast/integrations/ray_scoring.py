"""Batch scoring on Ray Data: read tasks load the planned blocks, and actors score them and write their parts.

A part is written atomically and has the same bytes whoever writes it. So a worker that dies costs only the time of its
block, and after a driver that dies, the next run scores the missing blocks.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError, require
from mtaw_fast.integrations.cluster import HERE, cluster
from mtaw_fast.scoring.plan import Block, Plan
from mtaw_fast.scoring.scorer import BATCH_ROWS, Scorer
from mtaw_fast.scoring.sessions import SESSION, read_rows
from mtaw_fast.system.cpus import usable_cpus

_NUMBER, _FAILED, _SECONDS = b"block", b"failed", b"seconds"  # keys in the metadata of a block's table
_ERRORS = (MtawError, OSError, MemoryError)


@dataclasses.dataclass(frozen=True, slots=True)
class BlockDone:
    """The result of a block: rows scored, processor seconds to read and score them, and the process (host:process)."""

    number: int
    rows: int
    processor_seconds: float
    process: str


class ScoringActor:
    """An actor that maps the bundle on start; actors of one host share the memory of its files."""

    def __init__(self, bundle: Path, plan: Plan, folder: Path) -> None:
        self._folder, self._scorer, self._failed = folder, None, ""
        self._blocks = {block.number: block for block in plan.blocks()}
        try:
            scorer = Scorer(bundle, plan.options)
            scorer.check(plan.bundle, plan.isa)
            self._scorer = scorer
        except _ERRORS as error:
            self._failed = str(error)

    def __call__(self, table: Any) -> dict[str, list[Any]]:
        """Score a block's table and return one row about it. An error is part of the row, because Ray would wrap it
        in pages of text."""
        import os
        import socket

        block = self._blocks[int(table.schema.metadata[_NUMBER])]
        began, metadata = time.process_time(), table.schema.metadata
        failed = metadata[_FAILED].decode() or self._failed
        if self._scorer is not None and not failed:
            try:
                self._scorer.write_batches(block, _batches(table), self._folder)
            except _ERRORS as error:
                failed = str(error)
        return {
            "number": [block.number],
            "rows": [block.rows],
            "processor_seconds": [time.process_time() - began + float(metadata[_SECONDS])],
            "process": [f"{socket.gethostname()}:{os.getpid()}"],
            "failed": [failed],
        }


def score_on_ray(
    bundle: Path,
    plan: Plan,
    blocks: Sequence[Block],
    folder: Path,
    address: str = HERE,
    actors: int | None = None,
    progress: Callable[[BlockDone], None] = lambda _: None,
) -> None:
    """Score blocks by a pool of actors.

    Parameters
    ----------
    bundle, folder : Path
        The bundle and the output. Every host of the cluster has them, and the plan's sources, at the same paths.
    plan : Plan
        Every actor checks its bundle and instruction set against it.
    blocks : sequence of Block
        The blocks to score.
    address : str, default 'local'
        As in `cluster`.
    actors : int, optional
        Number of actors; by default one per processor of the cluster or of this process.
    progress : callable
        Called with every block that is done, in any order.

    Raises
    ------
    MtawError
        The first error of an actor, in one line. Finished blocks stay.
    """
    if not blocks:
        return
    with cluster(address, actors or usable_cpus()) as ray:
        data = require("ray.data", "ray")
        count = min(actors or max(int(ray.cluster_resources().get("CPU", 1)), 1), len(blocks))
        # One read task per actor keeps ahead of it; each further task would start a process, which costs seconds.
        pieces = [(block.rows, functools.partial(_read, block, plan.options.columns)) for block in blocks]
        dataset = read_pieces(pieces, num_cpus=0, concurrency=count)
        scored = dataset.map_batches(
            ScoringActor,
            fn_constructor_args=(bundle.resolve(), plan, folder.resolve()),
            batch_size=None,
            batch_format="pyarrow",
            compute=data.ActorPoolStrategy(size=count),
            num_cpus=1,
        )
        for row in scored.iter_rows():
            failed = row.pop("failed")
            if failed:
                raise MtawError(failed)
            progress(BlockDone(**row))


def _read(block: Block, columns: Sequence[str]) -> Any:
    """Read a block's sessions with some further columns; an error is passed on to the actor in the metadata."""
    pa = require("pyarrow", "score")
    began, batches, failed = time.process_time(), [], ""
    try:
        batches = list(read_rows(block.path, block.first, block.rows, BATCH_ROWS, columns))
    except _ERRORS as error:
        failed = str(error)
    table = pa.Table.from_batches(batches) if batches else pa.table({SESSION: []})
    seconds = time.process_time() - began
    return table.replace_schema_metadata({_NUMBER: str(block.number), _FAILED: failed, _SECONDS: str(seconds)})


def _batches(table: Any) -> Iterator[Any]:
    """Yield BATCH_ROWS rows at a time, as the local path reads them, so that the row groups are equal."""
    for begin in range(0, table.num_rows, BATCH_ROWS):
        yield table.slice(begin, BATCH_ROWS).combine_chunks().to_batches()[0]


def read_pieces(pieces: Sequence[tuple[int, Callable[[], Any]]], **task: Any) -> Any:
    """Return a Ray data set of pieces: (rows, a function that reads them as an Arrow table), one read task each.

    task: options of a read task, such as num_cpus, and how many run at a time (concurrency).
    """
    data: Any = require("ray.data", "ray")
    context = data.DataContext.get_current()
    context.target_max_block_size = None  # keep a piece in one block, however large
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
