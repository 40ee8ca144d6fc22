"""What a scoring is to do, settled before its first row: bundle, options, sources, and the blocks of the output.

    OUT/_plan.json              this plan; a later run goes on where it is the same
    OUT/part-000000.parquet     a block's rows: session_id, items, scores
    OUT/_SUCCESS                all blocks are there

The blocks depend on nothing but the sources and `block_rows`, so every way to score them writes the same files.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.scoring.sessions import footer_of, open_sessions
from mtaw_fast.storage.files import read_json

FORMAT = "mtaw_fast scores"
FORMAT_VERSION = 1
PLAN, DONE = "_plan.json", "_SUCCESS"
BLOCK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """What is asked of every session, as in `Recommender.recommend`, and by what it is answered.

    k: items wanted. exclude: external ids that are never listed. exclude_seen: leave a session's own items out. at:
    Unix milliseconds, of a bundle that knows of time; None of any other. encoder, index: names, as `Recommender.load`
    takes them.
    """

    k: int = 20
    exclude: tuple[Any, ...] = ()
    exclude_seen: bool = False
    at: int | None = None
    encoder: str = "auto"
    index: str = "auto"


@dataclass(frozen=True, slots=True)
class Source:
    """One input file. rows, bytes: its size; footer: SHA-256 of its Parquet footer, which tells its data apart."""

    path: Path
    rows: int
    bytes: int
    footer: str


@dataclass(frozen=True, slots=True)
class Block:
    """Rows `first` .. `first + rows - 1` of a source, which become the part `number`."""

    number: int
    path: Path
    first: int
    rows: int

    @property
    def part(self) -> str:
        """The name of its file."""
        return f"part-{self.number:06d}.parquet"


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole work. bundle: its version; isa: the instruction set whose bits the native encoder gives."""

    bundle: str
    isa: str
    options: ScoringOptions
    sources: tuple[Source, ...]
    block_rows: int = BLOCK_ROWS

    @property
    def rows(self) -> int:
        """Of all sources."""
        return sum(source.rows for source in self.sources)

    def blocks(self) -> list[Block]:
        """In the order of the sources and their rows; a source without a row has one empty block."""
        found: list[Block] = []
        for source in self.sources:
            for first in range(0, max(source.rows, 1), self.block_rows):
                rows = min(self.block_rows, source.rows - first)
                found.append(Block(len(found), source.path, first, rows))
        return found

    def as_json(self) -> dict[str, Any]:
        """What is kept of it: sources by name, so that they may be moved."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "bundle": self.bundle,
            "isa": self.isa,
            "options": {**dataclasses.asdict(self.options), "exclude": list(self.options.exclude)},
            "block_rows": self.block_rows,
            "sources": [
                {"file": source.path.name, "rows": source.rows, "bytes": source.bytes, "footer": source.footer}
                for source in self.sources
            ],
        }


def sources_of(paths: Sequence[Path]) -> tuple[Source, ...]:
    """The files with their sizes. Raises DataError where one holds no sessions."""
    found = []
    for path in paths:
        with open_sessions(path) as file:
            rows = file.metadata.num_rows
        digest = hashlib.sha256(footer_of(path)).hexdigest()
        found.append(Source(path.resolve(), rows, path.stat().st_size, digest))
    return tuple(found)


def kept_plan(folder: Path) -> dict[str, Any] | None:
    """The plan in an output folder, None where the folder is new. Raises UsageError where it holds anything else."""
    if folder.is_file():
        raise UsageError(f"{folder} is a file; the scores need a folder, which is made")
    if not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir()):
        return None  # or killed before its plan was written
    if not (folder / PLAN).exists():
        raise UsageError(f"{folder} holds something else than scores; choose another folder")
    found = read_json(folder / PLAN, lambda why: DataError(f"{why}; remove {folder} and score again"))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{folder / PLAN} is no plan of scores; remove {folder} and score again")
    return found


def refuse_other(folder: Path, kept: dict[str, Any], plan: Plan) -> None:
    """Raise UsageError, naming what differs, unless the folder was begun with this very plan."""
    ours = plan.as_json()
    for name in ("format_version", "bundle", "isa", "options", "block_rows", "sources"):
        if kept.get(name) != ours[name]:
            there, here = kept.get(name), ours[name]
            if isinstance(there, dict) and isinstance(here, dict):
                name = next(key for key in here if there.get(key) != here[key])
                there, here = there.get(name), here[name]
            told = "" if name == "sources" else f": {name} {there!r} there, {here!r} now"
            raise UsageError(
                f"{folder} was begun with {'other sessions' if name == 'sources' else 'another ' + name}{told}; "
                "choose another folder, or go on as it was begun"
            )
