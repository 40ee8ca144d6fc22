"""The folder of scores: what is in it already, what is left to do, and when it is whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mtaw_fast.errors import MtawError, require
from mtaw_fast.scoring.plan import DONE, PLAN, Block, Plan, kept_plan, refuse_other
from mtaw_fast.storage.files import check_writable, folder_lock, write_bytes, write_json


@contextlib.contextmanager
def output_folder(folder: Path, plan: Plan) -> Iterator[list[Block]]:
    """Hold the folder of a plan: its blocks that are not there yet; marked as whole when the `with` ends well.

    What a killed run left half-written is removed. Raises UsageError where the folder is of another plan or holds
    anything else, MtawError where it cannot be written or somebody else is at it.
    """
    kept = kept_plan(folder)
    if kept is not None:
        refuse_other(folder, kept, plan)
    check_writable(folder, MtawError)
    with folder_lock(folder, MtawError):
        _sweep(folder)
        if kept is None:
            write_json(folder / PLAN, plan.as_json())
        yield [block for block in plan.blocks() if not _is_there(folder, block)]
        lacking = [block.part for block in plan.blocks() if not (folder / block.part).exists()]
        if lacking:
            raise MtawError(f"{folder} still lacks {lacking[0]} and {len(lacking) - 1} more; run the command again")
        _sweep(folder)  # of workers that were killed meanwhile
        if not (folder / DONE).exists():
            write_bytes(folder / DONE, b"")


def _sweep(folder: Path) -> None:
    for draft in folder.glob(".*.tmp"):
        draft.unlink(missing_ok=True)


def _is_there(folder: Path, block: Block) -> bool:
    """Parts appear whole; what was damaged since is written again."""
    parquet, pa = require("pyarrow.parquet", "score"), require("pyarrow", "score")
    try:
        return parquet.read_metadata(folder / block.part).num_rows == block.rows
    except (OSError, pa.ArrowException):
        return False
