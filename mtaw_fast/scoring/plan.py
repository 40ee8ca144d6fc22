"""The plan of a scoring, made before the first row is scored: bundle, options, sources, and the blocks of the output
folder; and the folder itself.

    OUT/_plan.json              the plan; a later run with the same plan continues
    OUT/part-000000.parquet     a block's rows: session_id, items, scores, fallback, unknown
    OUT/_SUCCESS                all blocks are there

The blocks depend only on the sources and `block_rows`, so every way to score them writes the same files.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.errors import DataError, MtawError, UsageError, require
from mtaw_fast.scoring.sessions import TYPES, open_sessions
from mtaw_fast.storage.files import (
    check_writable,
    folder_lock,
    read_json,
    remove_temporary,
    sha256_of,
    write_bytes,
    write_json,
)

FORMAT = "mtaw_fast scores"
FORMAT_VERSION = 3
PLAN, DONE = "_plan.json", "_SUCCESS"
BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """The options of every recommendation, as in `Recommender.recommend`, and the encoder and index that serve it.

    k: number of items. exclude: external ids that are never listed. exclude_seen: leave a session's own items out.
    at: Unix milliseconds for a bundle that was trained with times, else None. encoder, index: names, as
    `Recommender.load` takes them. rules: as `Recommender.recommend` takes them, written out. context: columns of the
    sessions that are read as context. types: whether a column with the types of the clicks is read.
    """

    k: int = 20
    exclude: tuple[Any, ...] = ()
    exclude_seen: bool = False
    at: int | None = None
    encoder: str = "auto"
    index: str = "auto"
    rules: dict[str, Any] | None = None
    context: tuple[str, ...] = ()
    types: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read besides the sessions' ids and clicks."""
        return (*self.context, TYPES) if self.types else self.context

    def as_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values."""
        return {**dataclasses.asdict(self), "exclude": list(self.exclude), "context": list(self.context)}


@dataclass(frozen=True, slots=True)
class Source:
    """One input file. rows, bytes: its size; sha256: of the file, since two of them may have one Parquet footer."""

    path: Path
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Block:
    """Rows `first` .. `first + rows - 1` of a source, which become part `number` of the output."""

    number: int
    path: Path
    first: int
    rows: int

    @property
    def part(self) -> str:
        """The file name of the part."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole scoring. bundle: its version; isa: the instruction set of the native encoder, which rounds by it."""

    bundle: str
    isa: str
    options: ScoringOptions
    sources: tuple[Source, ...]
    block_rows: int = BLOCK_ROWS

    @property
    def rows(self) -> int:
        """The rows of all sources."""
        return sum(source.rows for source in self.sources)

    def blocks(self) -> list[Block]:
        """Return the blocks in the order of the sources and their rows; a source without rows has one empty block."""
        blocks: list[Block] = []
        for source in self.sources:
            for first in range(0, max(source.rows, 1), self.block_rows):
                rows = min(self.block_rows, source.rows - first)
                blocks.append(Block(len(blocks), source.path, first, rows))
        return blocks

    def as_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values; sources go by file name, so they may be moved."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "bundle": self.bundle,
            "isa": self.isa,
            "options": self.options.as_json(),
            "block_rows": self.block_rows,
            "sources": [
                {"file": source.path.name, "rows": source.rows, "bytes": source.bytes, "sha256": source.sha256}
                for source in self.sources
            ],
        }


def sources_of(paths: Sequence[Path]) -> tuple[Source, ...]:
    """Return the files with their sizes. Raises DataError if one has no session columns."""
    sources = []
    for path in paths:
        with open_sessions(path) as file:
            rows = file.metadata.num_rows
        sources.append(Source(path.resolve(), rows, path.stat().st_size, sha256_of(path)))
    return tuple(sources)


def kept_plan(folder: Path) -> dict[str, Any] | None:
    """Read the plan in an output folder; return None for a new folder. Raises UsageError if it has anything else."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; name a folder")
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return None  # new, or a run was killed before it wrote its plan
    if not (folder / PLAN).exists():
        raise UsageError(f"{folder} has other files than scores; choose another folder")
    plan = read_json(folder / PLAN, lambda reason: DataError(f"{reason}; remove {folder} and score again"))
    if not isinstance(plan, dict) or plan.get("format") != FORMAT:
        raise DataError(f"{folder / PLAN} is not a plan of scores; remove {folder} and score again")
    return plan


def refuse_other(folder: Path, stored: dict[str, Any], plan: Plan) -> None:
    """Raise UsageError, naming what differs, unless the folder was begun with the same plan."""
    current = plan.as_json()
    for name in ("format_version", "bundle", "isa", "options", "block_rows", "sources"):
        if stored.get(name) != current[name]:
            old, new = stored.get(name), current[name]
            if isinstance(old, dict) and isinstance(new, dict):
                name = next(key for key in {**new, **old} if old.get(key) != new.get(key))
                old, new = old.get(name), new.get(name)
            change = "other sessions" if name == "sources" else f"another {name}: {name} {old!r} there, {new!r} now"
            raise UsageError(f"{folder} was begun with {change}; choose another folder, or continue as it was begun")


@contextlib.contextmanager
def output_folder(folder: Path, plan: Plan) -> Iterator[list[Block]]:
    """Lock the folder of a plan and yield its missing blocks; mark the folder as complete when the `with` succeeds.

    Unfinished files of a killed run are removed. Raises UsageError if the folder has another plan or other files,
    MtawError if it cannot be written or another process uses it.
    """
    check_writable(folder, MtawError)
    with folder_lock(folder, MtawError):
        kept = kept_plan(folder)
        if kept is not None:
            refuse_other(folder, kept, plan)
        remove_temporary(folder)
        if kept is None:
            write_json(folder / PLAN, plan.as_json())
        yield [block for block in plan.blocks() if not _is_there(folder, block)]
        missing = [block.part for block in plan.blocks() if not (folder / block.part).exists()]
        if missing:
            raise MtawError(f"{folder} still lacks {missing[0]} and {len(missing) - 1} more; run the command again")
        remove_temporary(folder)  # files of workers that were killed meanwhile
        if not (folder / DONE).exists():
            write_bytes(folder / DONE, b"")


def _is_there(folder: Path, block: Block) -> bool:
    """Return whether the part is whole. Parts are written atomically; one that was damaged since is written again."""
    parquet, pa = require("pyarrow.parquet", "score"), require("pyarrow", "score")
    try:
        return parquet.read_metadata(folder / block.part).num_rows == block.rows
    except (OSError, pa.ArrowException):
        return False
