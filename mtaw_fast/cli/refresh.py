"""`mtaw-fast refresh`: bring the served bundle up to the newest days of a log."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, print_json, wait_passively
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import DataError, MtawError, require
from mtaw_fast.refreshing import RefreshResult, refresh
from mtaw_fast.refreshing.state import NOT_RELOADED, NOT_WATCHED, ROLLED_BACK

# Outcomes with status 1: what became of the bundle, and the step and key of the run's record that say why.
_FAILED = {
    ROLLED_BACK: ("was promoted and rolled back", "watch", "alarm"),
    NOT_RELOADED: ("is promoted, but the service does not serve it", "reload", "missed"),
    NOT_WATCHED: ("is promoted, but it was not watched", "watch", "missed"),
}


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "refresh", run, "mtaw-fast refresh shop.toml --dry-run")
    parser.add_argument("config", type=Path, metavar="CONFIG", help="TOML file; docs/refresh.md explains its keys")
    parser.add_argument(
        "--dry-run", action="store_true", help="check the log, print the plan with its time and memory, and stop"
    )
    parser.add_argument(
        "--at", metavar="TIME",
        help="refresh as at this time, to catch up with an old log: ISO-8601 (UTC if it names no offset) or Unix "
        "milliseconds (default: now)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> None:
    """Check the newest periods of a log, make a bundle with them, judge it against the served one, and promote it if
    nothing that must hold is worse. A run that was killed continues where it was."""
    wait_passively()
    require("torch", "train")
    at = moment_of("--at", arguments.at)
    result = refresh(
        arguments.config, dry_run=arguments.dry_run, now=None if at is None else at / 1000,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    if arguments.json:
        print_json(dataclasses.asdict(result))
    else:
        print("\n".join(_lines(result)))
    if result.outcome == "refused":
        raise DataError(f"the log of {result.day} is refused, and nothing was trained on it: {_checks(result)}")
    if result.run is not None and result.outcome in _FAILED:
        what, step, key = _FAILED[result.outcome]
        raise MtawError(f"{result.run['bundle']} {what}: {result.run['done'][step][key]}")


def _checks(result: RefreshResult) -> str:
    return "; ".join(result.refused[result.day])


def _lines(result: RefreshResult) -> list[str]:
    if result.outcome == "planned":
        return result.plan
    lines = [f"{day}: refused, {'; '.join(failed)}" for day, failed in sorted(result.refused.items())]
    if result.run is not None:
        done = result.run["done"]
        lines.append(f"{result.run['day']}: {done['plan']['how']} ({done['plan']['why']})")
        if (judge := done["judge"]) is not None:
            lines.append(judge["verdict"])
            lines += [f"worse: {text}" for text in judge["worse"]]
    return [*lines, f"{result.outcome}: {result.bundle or 'no bundle'} is current"]
