"""What `update` and `replay` share: a log beside a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.readers import read_stream
from mtaw_fast.errors import UsageError
from mtaw_fast.online.batch_update import LogFile, log_limits
from mtaw_fast.online.settings import LearningLimits, LearningSettings, limits_of


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


_STREAMS = ("redis://", "rediss://", "unix://")


def add_learning_options(parser: argparse.ArgumentParser) -> None:
    """Add them to the parser."""
    group = parser.add_argument_group("learning from clicks (docs/live.md)")
    group.add_argument(
        "--learn", metavar="WHERE",
        help="a folder to learn in, shared by all workers, or redis://host:6379/0 for several machines",
    )  # fmt: skip
    group.add_argument(
        "--learn-folder", type=Path, metavar="FOLDER",
        help="with --learn redis://..: where this machine keeps the bundle that grows (default: BUNDLE.learned)",
    )  # fmt: skip
    group.add_argument("--fsync", action="store_true", help="acknowledge events after fsync, not every 20 ms")
    group.add_argument("--retention", default="30d", metavar="TIME", help="learned sessions: 12h, 30d (default: 30d)")
    group.add_argument(
        "--max-log-bytes", type=int, default=2 << 30, metavar="BYTES", help="of the log (default: 2147483648)"
    )
    group.add_argument(
        "--min-clicks", type=int, default=1, metavar="N", help="of a new item, to be recommended (default: 1)"
    )
    group.add_argument(
        "--learn-limit", action="append", default=[], metavar="NAME=VALUE",
        help="see LearningLimits in docs/live.md; may be repeated",
    )  # fmt: skip


def learning_settings(arguments: argparse.Namespace) -> LearningSettings | None:
    """The settings that the options say; None without --learn. Raises UsageError where they make no sense."""
    where = arguments.learn
    if where is None:
        return None
    stream = where if where.startswith(_STREAMS) else None
    folder = Path(where) if stream is None else arguments.learn_folder
    if folder is None:
        folder = arguments.bundle.with_name(f"{arguments.bundle.name}.learned")
    if stream is not None and "@" in stream:
        raise UsageError(
            "--learn holds a password, which every user of this machine can read in the list of processes; give it in "
            "$MTAW_REDIS_PASSWORD"
        )
    return LearningSettings(
        folder,
        stream,
        fsync=arguments.fsync,
        retention_days=_days(arguments.retention),
        max_log_bytes=arguments.max_log_bytes,
        limits=limits_of([f"min_clicks={arguments.min_clicks}", *arguments.learn_limit]),
    )


def _days(text: str) -> float:
    """Days of `30d`, `12h`."""
    number, unit = text[:-1], text[-1:]
    try:
        days = float(number) / {"d": 1, "h": 24}[unit]
    except (KeyError, ValueError):
        raise UsageError(f"--retention {text!r} is no time; write 30d or 12h") from None
    if not days > 0:
        raise UsageError(f"--retention {text!r} must be above 0")
    return days
