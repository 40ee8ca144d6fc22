"""What `update` and `replay` share: a log beside a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.readers import read_stream
from mtaw_fast.errors import UsageError
from mtaw_fast.online.batch_update import LogFile, log_limits
from mtaw_fast.online.settings import LearningLimits, limits_of


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """BUNDLE, LOG and --learn-limit."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "log", type=Path, metavar="LOG", help="read with the columns, types and gap of the data set that was trained on"
    )
    parser.add_argument(
        "--learn-limit", action="append", default=[], metavar="NAME=VALUE",
        help="see LearningLimits in docs/live.md; may be repeated",
    )  # fmt: skip


def log_of(bundle: Bundle, source: Path) -> LogFile:
    """The log at `source`, read as the bundle's data set was.

    Raises
    ------
    UsageError
        Where the bundle does not say how, or cannot learn.
    """
    reader = bundle.dataset.get("reader")
    if not isinstance(reader, dict) or not reader:
        raise UsageError(
            f"the bundle {bundle.folder} does not say how to read a log: it is of an earlier release, or its data set "
            "was made by other means than 'prepare'; prepare and train again"
        )
    return LogFile.of(read_stream(source, reader), bundle.model)


def limits_for(pairs: Sequence[str]) -> LearningLimits:
    """The limits of --learn-limit, for a log whose sessions are cut already."""
    return log_limits(limits_of(pairs))


def min_prefix_of(bundle: Bundle) -> int:
    """The shortest prefix that counts as a sample."""
    found = bundle.dataset.get("min_prefix", 1)
    return found if type(found) is int and found >= 1 else 1
