"""Batch scoring on Ray Data: blocks are read as they are planned, actors score them, each block commits itself.

A block's part is renamed into place as a whole and holds the same bytes whoever writes it, so a worker that dies costs
its block's time, and a driver that dies is followed by a run over the blocks that are not there.
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

_NUMBER, _FAILED, _SECONDS = b"block", b"failed", b"seconds"  # in the metadata of a block's table
_ERRORS = (MtawError, OSError, MemoryError)


@dataclasses.dataclass(frozen=True, slots=True)
class BlockDone:
    """What an actor tells of a block: rows scored, seconds of processor time to read and to score them, and where
    they were scored (host:process)."""

    number: int
    rows: int
    processor_seconds: float
    place: str


class ScoringActor:
    """Maps the bundle when it starts; actors of one machine share the memory of its files."""

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
        """Score a block's table; a row that tells of it. Errors are told too: Ray would wrap them in pages."""
        import os
        import socket

        block = self._blocks[int(table.schema.metadata[_NUMBER])]
        began, about = time.process_time(), table.schema.metadata
        failed = about[_FAILED].decode() or self._failed
        if self._scorer is not None and not failed:
            try:
                self._scorer.write_batches(block, _batches(table), self._folder)
            except _ERRORS as error:
                failed = str(error)
        return {
            "number": [block.number],
            "rows": [block.rows],
            "processor_seconds": [time.process_time() - began + float(about[_SECONDS])],
            "place": [f"{socket.gethostname()}:{os.getpid()}"],
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
        The bundle and the output, where every machine of the cluster finds them, as it does the plan's sources.
    plan : Plan
        Every actor checks its bundle and instruction set against it.
    blocks : sequence of Block
        Those that are to be done.
    address : str, default 'local'
        As in `cluster`.
    actors : int, optional
        How many; by default one a processor, of the cluster or of this process.
    progress : callable
        Called with every block that is done, in any order.

    Raises
    ------
    MtawError
        What failed in an actor first, in one line. Blocks that were done stay.
    """
    if not blocks:
        return
    with cluster(address, actors or usable_cpus()) as ray:
        data = require("ray.data", "ray")
        count = min(actors or max(int(ray.cluster_resources().get("CPU", 1)), 1), len(blocks))
        # A read task keeps ahead of its actor; more of them would each start a process, seconds of a processor.
        pieces = [(block.rows, functools.partial(_read, block)) for block in blocks]
        read = read_pieces(pieces, num_cpus=0, concurrency=count)
        scored = read.map_batches(
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


def _read(block: Block) -> Any:
    """A block's sessions; what fails is told to the actor that gets them."""
    pa = require("pyarrow", "score")
    began, batches, failed = time.process_time(), [], ""
    try:
        batches = list(read_rows(block.path, block.first, block.rows, BATCH_ROWS))
    except _ERRORS as error:
        failed = str(error)
    table = pa.Table.from_batches(batches) if batches else pa.table({SESSION: []})
    seconds = time.process_time() - began
    return table.replace_schema_metadata({_NUMBER: str(block.number), _FAILED: failed, _SECONDS: str(seconds)})


def _batches(table: Any) -> Iterator[Any]:
    """BATCH_ROWS rows at a time, as the local path reads them, so that the row groups are the same."""
    for first in range(0, table.num_rows, BATCH_ROWS):
        yield table.slice(first, BATCH_ROWS).combine_chunks().to_batches()[0]


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
