"""What `update` and `replay` share: a log beside a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.readers import read_stream
from mtaw_fast.errors import UsageError
from mtaw_fast.live.limits import LearningLimits
from mtaw_fast.live.offline import LogFile, log_limits
from mtaw_fast.live.settings import limits_of


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """BUNDLE, LOG and --limits."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument(
        "log", type=Path, metavar="LOG", help="read with the columns, types and gap of the data set that was trained on"
    )
    parser.add_argument(
        "--limits", default="", metavar="NAME=VALUE,..", help="who teaches how much, as when serving with --learn"
    )


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


def limits_for(text: str) -> LearningLimits:
    """The limits of --limits, for a log whose sessions are cut already."""
    return log_limits(limits_of(text))


def min_prefix_of(bundle: Bundle) -> int:
    """The shortest prefix that counts as a sample."""
    found = bundle.dataset.get("min_prefix", 1)
    return found if type(found) is int and found >= 1 else 1
