"""The `mtaw-fast` command: from click log to bundle to recommendations."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from mtaw_fast import __version__
from mtaw_fast.cli import (
    bundles,
    click_logs,
    compact,
    config,
    experiment,
    export,
    info,
    items,
    placements,
    prepare,
    quality,
    recommend,
    refresh,
    score,
    serve,
    train,
    tune,
    why,
)
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.system.launch import follows

_INTERRUPTED = 130
_ADD_COMMANDS = (
    prepare.add_to, train.add_to, tune.add_to, click_logs.add_update, quality.add_evaluate, quality.add_compare,
    quality.add_report, click_logs.add_replay, export.add_to, recommend.add_to, why.add_to, score.add_to, serve.add_to,
    experiment.add_to, items.add_to, placements.add_to, compact.add_to, bundles.add_to, refresh.add_to,
    info.add_to, config.add_to,
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Report misuse in one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 ok, 1 failed, 2 misused, 130 interrupted."""
    words = sys.argv[1:] if argv is None else argv
    # All processes of a training group get the same arguments, so rank 0 alone prints what is wrong with them. Other
    # commands have no group, even when the environment has the variables of one.
    speaks = "train" not in words or not follows()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # the locale may lack a character of an id, or of a chart
    try:
        arguments = _parser().parse_args(argv)
        logging.basicConfig(
            level=logging.INFO if arguments.verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
        )
        arguments.run(arguments)
        print(end="", flush=True)  # works with a closed standard output, too
        return 0
    except MtawError as error:
        return _fail(str(error), error.exit_code, speaks or error.exit_code != UsageError.exit_code)
    except BrokenPipeError:
        # The reader of our output has closed the pipe (`| head`). This is no failure, and no more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'a file'}: {error.strerror or error}; check the path and its permissions", 1)
    except KeyboardInterrupt:
        return _fail(
            "interrupted; continue a training with --resume, and score with the same command", _INTERRUPTED, speaks
        )


def _fail(message: str, status: int, speaks: bool = True) -> int:
    if speaks:
        print(f"mtaw-fast: {' '.join(message.split())}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mtaw-fast", description="Session-based recommendation: from click log to top-K.")
    parser.add_argument("--version", action="version", version=f"mtaw-fast {__version__}")
    parser.add_argument("--verbose", action="store_true", help="log which backends, encoders and indexes are chosen")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add_command in _ADD_COMMANDS:
        add_command(commands)
    return parser
