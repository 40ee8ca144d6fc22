"""Options of the commands that learn from clicks: `serve`, `compact`, `items`, and --learn-limit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_number, kept_folder
from mtaw_fast.errors import UsageError
from mtaw_fast.online.settings import LearningLimits, LearningSettings, limits_of

_STREAMS = ("redis://", "rediss://", "unix://")
_LIMIT_HELP = "set a limit of learning; repeat for more. The limits, in docs/learning-limits.md: " + ", ".join(
    LearningLimits.__match_args__
)
EVENTS_TOKEN_VARIABLE = "MTAW_EVENTS_TOKEN"
# The options that have no meaning without --learn.
_DEFAULTS: dict[str, Any] = {
    "--learn-folder": None, "--fsync": False, "--retention": "30d", "--max-log-bytes": 2 << 30, "--max-backlog": 5_000,
    "--min-clicks": 1, "--learn-limit": [], "--events-token-file": None, "--open-events": False, "--proxy": [],
    "--proxy-header": "x-forwarded-for",
}  # fmt: skip


def add_learn_limit(parser: Any) -> None:
    """Add --learn-limit."""
    parser.add_argument("--learn-limit", action="append", default=[], metavar="NAME=VALUE", help=_LIMIT_HELP)


def add_learning_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve` that turn learning on and configure it."""
    group = parser.add_argument_group("learning from clicks (docs/live.md)")
    group.add_argument(
        "--learn", metavar="WHERE",
        help="learn from clicks and keep the event log here: a folder that all workers share, or redis://host:6379/0 "
        "for several hosts. Several bundles learn from one log",
    )  # fmt: skip
    add_learn_folder(group)
    group.add_argument(
        "--fsync", action="store_true", help="acknowledge an event only after its fsync (default: fsync every 20 ms)"
    )
    group.add_argument(
        "--retention", default=_DEFAULTS["--retention"], metavar="TIME",
        help="how long learned sessions are kept, such as 12h or 30d (default: 30d)",
    )  # fmt: skip
    add_number(group, "--max-log-bytes", "BYTES", _DEFAULTS["--max-log-bytes"], "largest size of the event log")
    add_number(
        group, "--max-backlog", "N", _DEFAULTS["--max-backlog"],
        "events that are not learned yet, above which more get a 503",
    )  # fmt: skip
    add_number(group, "--min-clicks", "N", _DEFAULTS["--min-clicks"], "clicks after which a new item is recommended")
    add_learn_limit(group)
    _add_events(group)


def _add_events(group: Any) -> None:
    """Add the options that say whose events are believed, and where others come from."""
    group.add_argument(
        "--events-token-file", type=Path, metavar="FILE",
        help="file with the bearer token of trusted events, whose times and number are believed; events without it are "
        f"refused (default: ${EVENTS_TOKEN_VARIABLE}, else all events are open)",
    )  # fmt: skip
    group.add_argument(
        "--open-events", action="store_true", help="with a token of events: take events without it, too, as open ones"
    )
    group.add_argument(
        "--proxy", action="append", default=[], metavar="ADDRESS",
        help="address or network of a proxy, such as 10.0.0.7 or 10.0.0.0/24, that says in a header where open events "
        "come from; repeat for more",
    )  # fmt: skip
    group.add_argument(
        "--proxy-header", type=str.lower, default=_DEFAULTS["--proxy-header"], metavar="NAME",
        help=f"the name of that header (default: {_DEFAULTS['--proxy-header']})",
    )  # fmt: skip


def add_side_by_side(parser: Any, meaning: str) -> None:
    """Add the option --bundle for several bundles; `arguments.side_by_side` is a list of (folder, weight)."""
    parser.add_argument(
        "--bundle", dest="side_by_side", action="append", default=[], type=_weighted, metavar="FOLDER=WEIGHT",
        help=meaning,
    )  # fmt: skip


def _weighted(text: str) -> tuple[Path, float]:
    """Parse FOLDER=WEIGHT."""
    folder, equals, weight = text.rpartition("=")
    try:
        if not (folder and equals):
            raise ValueError
        return Path(folder).absolute(), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write FOLDER=WEIGHT, as in shop.bundle=90") from None


def add_learn_folder(options: Any) -> None:
    """Add --learn-folder to a parser or a group of its options."""
    options.add_argument(
        "--learn-folder", type=kept_folder, metavar="FOLDER",
        help="with --learn redis://..: where this host keeps compacted bundles (default: BUNDLE.learned)",
    )  # fmt: skip


def learning_storage(location: str, folder: Path | None, bundle: Path) -> tuple[Path, str | None]:
    """Return the folder of compacted bundles and the address of the Redis stream, None without one.

    location, folder: --learn and --learn-folder. bundle: names the default folder of a stream. Raises UsageError on an
    empty location, on an address with a password, and on a second folder.
    """
    if not location:
        raise UsageError("--learn is empty; give a folder or a redis:// address")
    if not location.startswith(_STREAMS):
        if folder is not None:
            raise UsageError(
                f"--learn-folder goes with --learn redis://.., not with the folder {location}; leave it out"
            )
        return Path(location), None
    if "@" in location:
        raise UsageError(
            "--learn contains a password, which every user of this host can read in the process list; set "
            "$MTAW_REDIS_PASSWORD instead"
        )
    return folder or bundle.with_name(f"{bundle.name}.learned"), location


def learning_settings(arguments: argparse.Namespace) -> LearningSettings | None:
    """Return the settings of the options, or None without --learn.

    `LearningSettings.of_one` and `of_arms` start from them. Raises UsageError on options that do not fit.
    """
    bundle, side_by_side = arguments.bundle, arguments.side_by_side
    if (bundle is None) == (not side_by_side):
        raise UsageError("give either one BUNDLE, or several as --bundle FOLDER=WEIGHT")
    if arguments.learn is None:
        changed = [
            flag for flag, default in _DEFAULTS.items() if getattr(arguments, flag[2:].replace("-", "_")) != default
        ]
        if changed:
            raise UsageError(f"{changed[0]} goes with --learn; give --learn, or leave {changed[0]} out")
        return None
    folder, stream = learning_storage(arguments.learn, arguments.learn_folder, bundle or side_by_side[0][0])
    return LearningSettings(
        folder,
        stream,
        fsync=arguments.fsync,
        retention_days=_days(arguments.retention),
        max_log_bytes=arguments.max_log_bytes,
        max_backlog=arguments.max_backlog,
        limits=limits_of([f"min_clicks={arguments.min_clicks}", *arguments.learn_limit]),
    )


def _days(text: str) -> float:
    """Parse `30d` or `12h` into days."""
    number, unit = text[:-1], text[-1:]
    try:
        days = float(number) / {"d": 1, "h": 24}[unit]
    except (KeyError, ValueError):
        raise UsageError(f"--retention {text!r} is not a time; write 30d or 12h") from None
    if not days > 0:
        raise UsageError(f"--retention {text!r} must be above 0")
    return days
