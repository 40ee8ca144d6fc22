"""What the commands share: option groups, JSON output, ids as typed on a command line."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError
from mtaw_fast.workflow import Progress

WEIGHTS_HELP = (
    "what targets count by the type of their event, such as view=1,cart=3,purchase=8, in {what}; types left out count "
    "1, and 0 leaves a type out (default: all the same)"
)


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], summary: str, example: str
) -> argparse.ArgumentParser:
    """Add a subcommand whose --help ends with an example."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=_Help,
    )
    parser.set_defaults(run=run)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Tells the default of every option that has one, where its help does not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        if action.default in (None, False, argparse.SUPPRESS, []) or "default:" in text or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)".lstrip()


def add_serving_options(parser: argparse.ArgumentParser) -> None:
    """--encoder and --index, as in Recommender.load."""
    parser.add_argument(
        "--encoder", default="auto", help="auto, native, numpy, eager, onnx, onnx-cuda or onnx-cuda:1 (default: auto)"
    )
    parser.add_argument("--index", default="auto", help="auto, scan, exact, flat, gpu, gpu:1 or ladder (default: auto)")


class RankingProgress:
    """A rich bar on a terminal where rich is installed; nothing elsewhere."""

    def __init__(self, wanted: bool) -> None:
        self._bar: Any = None
        if wanted and sys.stderr.isatty():
            try:
                from rich.progress import Progress as Bar
            except ModuleNotFoundError:
                return  # the base install serves without rich
            self._bar = Bar(transient=True)

    def __enter__(self) -> Progress | None:
        if self._bar is None:
            return None
        self._bar.start()
        task = self._bar.add_task("ranking", total=None)
        return lambda what, done, total: self._bar.update(task, description=what, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def thread_count(text: str) -> int | None:
    """A number of threads as typed; None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; write 1, 2, .. or auto")
    return int(text)


def wait_passively() -> None:
    """Let PyTorch's threads sleep while they wait for one another, and not take a processor from what they wait for.

    OpenMP reads this once, when PyTorch is loaded; a setting of the user's stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def print_json(value: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(value, ensure_ascii=False))


def typed_ids(texts: Sequence[str], ids: ItemIds) -> list[Any]:
    """Ids as the bundle's table holds them: numbers where it holds numbers."""
    if ids.kind == "str":
        return list(texts)
    found = []
    for text in texts:
        try:
            found.append(int(text))
        except ValueError:
            raise UsageError(f"item {text!r:.60}: this bundle's item ids are integers") from None
    return found


def moment_of(name: str, text: str | None) -> int | None:
    """The milliseconds since 1970 that the option `name` says; None where it was not given."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):  # of more digits than Python reads, too
        if text.isdecimal() and len(text) > len("20171015") and int(text) < 1 << 63:
            return int(text)
        moment = datetime.datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
        return round(moment.timestamp() * 1000)
    raise UsageError(f"{name} {text!r} is no time; write 2017-10-15, 2017-10-15T08:30 or Unix milliseconds")
