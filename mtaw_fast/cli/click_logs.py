"""`mtaw-fast update` and `replay`: learn a click log without a training, and measure what learning it would bring."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import ADDED_PARTS
from mtaw_fast.cli.common import add_command, add_number, print_json, progress_bar, wait_passively
from mtaw_fast.cli.learning_options import add_learn_limit
from mtaw_fast.data.moments import moment_of
from mtaw_fast.errors import UsageError, require
from mtaw_fast.online.batch_update import log_limits
from mtaw_fast.online.replay import ReplayResult, ReplaySettings, replay
from mtaw_fast.online.settings import limits_of
from mtaw_fast.storage.files import atomic_path
from mtaw_fast.workflow import log_of, min_prefix_of, update

_SHOWN = ("P@20", "MRR@20")


def add_update(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "update", run_update, "mtaw-fast update shop.bundle monday.csv --refit ranker")
    _add_log_arguments(parser)
    parser.add_argument(
        "--refit", choices=("ranker", "all"), help="also train the ranker, or ranker and encoder, on the new sessions"
    )
    parser.add_argument("--device", default="cpu", help="device of --refit all: auto, cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run_update(arguments: argparse.Namespace) -> None:
    """Add the sessions, items and counts of a log to a bundle. Clicks that it learned before are not learned twice."""
    began = time.perf_counter()
    if arguments.refit:
        wait_passively()
        require("torch", "train")
    bundle = Bundle.load(arguments.bundle)
    lost = sorted(set(ADDED_PARTS) & bundle.manifest["files"].keys())
    with _progress_of(arguments) as reporter:
        updated = update(
            bundle, arguments.log, refit=arguments.refit, device=arguments.device,
            limits=limits_of(arguments.learn_limit), reporter=reporter,
        )  # fmt: skip
    summary = updated.summary
    seconds = time.perf_counter() - began
    if arguments.json:
        times = {"seconds": round(seconds, 2), "refit_seconds": round(updated.refit_seconds, 2)}
        result = dataclasses.asdict(summary) | times | {"refit": updated.history, "to_export_again": lost}
        print_json({"bundle": str(arguments.bundle), **result})
        return
    print(
        f"{summary.clicks:,} clicks of {summary.sessions:,} sessions: {summary.learned_clicks:,} learned in "
        f"{summary.learned_sessions:,} sessions, {summary.known_clicks:,} of before its last click, known or left out "
        f"by its training, {summary.new_items:,} new items"
    )
    print(f"refused: {_refused_text(summary.refused, summary.bots, 'nothing')}")
    if lost:
        print(f"removed, as made for the old catalog: {', '.join(lost)}; run 'mtaw-fast export' again")
    print(f"wrote {arguments.bundle} in {seconds:.1f} s")


def _progress_of(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[Any]:
    """Return the progress bar of a refit, or nothing."""
    if not arguments.refit or arguments.json:
        return contextlib.nullcontext()
    from mtaw_fast.cli.progress import TrainingProgress

    return TrainingProgress()


def add_replay(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands, "replay", run_replay,
        "mtaw-fast replay news.bundle clicks.csv --from 2017-10-15 --exclude-seen --json",
    )  # fmt: skip
    _add_log_arguments(parser)
    parser.add_argument(
        "--from", dest="begin", metavar="TIME",
        help="score clicks from this time on, ISO-8601 (UTC if it names no offset) or Unix milliseconds; earlier "
        "clicks are context (default: after the last click that was trained on)",
    )  # fmt: skip
    parser.add_argument("--until", metavar="TIME", help="score only clicks before this time")
    parser.add_argument("--exclude-seen", action="store_true", help="do not rank the session's own items")
    add_number(parser, "--every", "SECONDS", 1.0, "learn in steps of this many seconds of the log", float)
    add_number(parser, "--half-life", "HOURS", 0.5, "half-life of the baselines", float)
    parser.add_argument("--json", action="store_true", help="print the metrics, in percent, as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw P@20 over time to a PNG file")


def run_replay(arguments: argparse.Namespace) -> None:
    """Predict every click of a log from the clicks before it, and compare the learning bundle with the frozen one."""
    if arguments.plot is not None:
        require("matplotlib", "train")
    for option, number in (("--every", arguments.every), ("--half-life", arguments.half_life)):
        if not abs(number) < 1e12:  # also refuses nan
            raise UsageError(f"{option} {number} is not a duration; write a number such as 0.5")
    bundle = Bundle.load(arguments.bundle)
    settings = ReplaySettings(
        begin=moment_of("--from", arguments.begin),
        until=moment_of("--until", arguments.until),
        exclude_seen=arguments.exclude_seen,
        every=max(round(arguments.every * 1000), 0),
        min_prefix=min_prefix_of(bundle),
        half_life=arguments.half_life * 3_600_000,
    )
    limits = log_limits(limits_of(arguments.learn_limit))
    log = log_of(bundle, arguments.log, limits)
    if log.stream.times is None and (settings.begin is not None or settings.until is not None):
        raise UsageError(f"{arguments.log} has no times, so --from and --until do not apply; leave them out")
    with progress_bar(not arguments.json) as bar:
        progress = None if bar is None else functools.partial(bar, "replay")
        result = replay(log, settings, limits, progress)
    if arguments.json:
        print_json(result.as_dict())
    else:
        print(_table(result))
    if arguments.plot is not None:  # last: a file that cannot be written must not take the metrics along
        _plot(result, arguments.plot)


def _table(result: ReplayResult) -> str:
    """Return a Markdown table: all samples, then each part of the log."""
    names = list(result.ranks)
    head = ["", "samples", "unknown %", *(f"{name} {metric}" for name in names for metric in _SHOWN)]
    rows = [head, ["---"] * len(head), _row("all", result, slice(None))]
    rows += [_row(name, result, samples) for name, samples in result.parts()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
             for row in rows]  # fmt: skip
    return "\n".join([*lines, "", f"clicks not learned: {_refused_text(result.refused, result.bots, 'none')}"])


def _row(name: str, result: ReplayResult, samples: Any) -> list[str]:
    metrics = result.metrics(samples)
    count = len(result.clicks[samples])
    values = [f"{metrics[ranker][metric]:.2f}" for ranker in metrics for metric in _SHOWN]
    return [name, f"{count:,}", f"{result.unknown_percent(samples):.1f}", *values]


def _plot(result: ReplayResult, path: Path) -> None:
    """Draw P@20 of every ranker over the parts of the log to a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    parts = result.parts()
    for name in result.ranks:
        axes.plot([result.metrics(samples)[name]["P@20"] for _, samples in parts], label=name, marker=".")
    axes.plot([result.unknown_percent(samples) for _, samples in parts], label="unknown targets", color="gray", ls=":")
    step = max(len(parts) // 8, 1)
    axes.set_xticks(range(0, len(parts), step), [parts[index][0] for index in range(0, len(parts), step)], fontsize=7)
    axes.set(ylabel="P@20, %", ylim=(0, None))
    axes.legend(fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _add_log_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder made by 'train'")
    parser.add_argument(
        "log", type=Path, metavar="LOG",
        help="click log; read with the columns, event types and gap of the bundle's data set",
    )  # fmt: skip
    add_learn_limit(parser)


def _refused_text(refused: Mapping[str, int], bots: int, nothing: str) -> str:
    """Return the clicks that were not learned by reason, and the sessions that are left out as bots."""
    text = ", ".join(f"{reason} {count:,}" for reason, count in sorted(refused.items())) or nothing
    return text + (f"; left out as bots: {bots:,} session{'' if bots == 1 else 's'}" if bots else "")
