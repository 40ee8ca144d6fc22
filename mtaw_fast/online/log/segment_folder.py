"""The segment files of a log's folder, and the positions in them.

A position is the offset after a record, `<segment>-<offset>`, both of fixed width: positions sort in the log's order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mtaw_fast.errors import LearnError
from mtaw_fast.online.log.event_log import START
from mtaw_fast.system import host

_SEGMENT = re.compile(r"events-([0-9]{10,})\.log")


class SegmentFolder:
    """Finds the segments in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def numbers(self) -> list[int]:
        """Return the numbers of all segments, ascending. Raises OSError if the folder cannot be read."""
        # Not glob: it treats a folder that cannot be read as an empty one.
        matches = map(_SEGMENT.fullmatch, [path.name for path in host.listing(self.folder)])
        return sorted([int(match[1]) for match in matches if match])

    def path(self, number: int) -> Path:
        """Return the file of a segment."""
        return self.folder / f"events-{number:010d}.log"

    def size(self, number: int) -> int:
        """Return the bytes of a segment. Raises OSError if it is gone."""
        return host.status(self.path(number)).st_size

    @contextmanager
    def as_learn_error(self, work: str) -> Iterator[None]:
        """Raise an OSError as a LearnError. work: what cannot be done then."""
        try:
            yield
        except OSError as error:
            raise LearnError(
                f"cannot {work} {error.filename or self.folder}: {error.strerror or error}; "
                "check the disk, the permissions and the limit of open files (ulimit -n)"
            ) from None


def parsed_position(position: str) -> tuple[int, int]:
    """Return (segment, offset) of a position. Raises LearnError if it is not a position."""
    if position == START:
        return 0, 0
    number, dash, offset = position.partition("-")
    if not (dash and number.isdigit() and offset.isdigit()):
        raise LearnError(f"{position!r} is not a position of a log in a folder; write <segment>-<offset>")
    return int(number), int(offset)


def position_of(number: int, offset: int) -> str:
    """Return the position of an offset in a segment."""
    return f"{number:010d}-{offset:012d}"
