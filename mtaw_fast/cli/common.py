"""Shared parts of the commands: option groups, progress bars, JSON output, and parsing of ids, times and numbers."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.config import DEFAULT_PRESET, PRESETS, Config, preset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError, shown
from mtaw_fast.rules import rule_set_of
from mtaw_fast.storage.files import read_json

Bar = Callable[[str, int, int], None]  # called as bar(what, done, total)
WEIGHTS_HELP = (
    "weight of a target by its event type, such as view=1,cart=3,purchase=8, in {what}; a type that is not named has "
    "weight 1, and weight 0 removes a type (default: all 1)"
)


def names_in(text: str | None) -> list[str] | None:
    """Split comma-separated names; None without the option."""
    return None if text is None else [name for name in text.split(",") if name]


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], example: str
) -> argparse.ArgumentParser:
    """Add a subcommand; its --help begins with the docstring of `run` and ends with an example."""
    summary = " ".join((run.__doc__ or "").split())
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=summary, epilog=f"example:\n  {example}", formatter_class=_Help
    )
    parser.set_defaults(run=run)
    return parser


class _Help(argparse.RawDescriptionHelpFormatter):
    """Append the default to the help of every option whose text does not state it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        has_none = action.default is None or action.default is False  # 0 is a default
        if has_none or action.default in (argparse.SUPPRESS, []) or "default:" in text or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)".lstrip()


def add_serving_options(parser: argparse.ArgumentParser) -> None:
    """Add --encoder and --index, with the names that `Recommender.load` takes."""
    parser.add_argument(
        "--encoder", default="auto", help="auto, native, numpy, torch, onnx, onnx-cuda or onnx-cuda:1 (default: auto)"
    )
    parser.add_argument(
        "--index", default="auto", help="auto, native, numpy, faiss-flat, faiss-gpu, faiss-gpu:1 or ann (default: auto)"
    )


def add_number(
    parser: Any, flag: str, metavar: str, default: float, text: str, kind: Callable[[str], Any] = int
) -> None:
    """Add an option that is a number; its help ends with the default."""
    parser.add_argument(flag, metavar=metavar, type=kind, default=default, help=text)


@contextlib.contextmanager
def progress_bar(enabled: bool) -> Iterator[Bar | None]:
    """Yield the callback of a bar on standard error: (what, done, total). Yield None if not on a terminal."""
    try:
        if not (enabled and sys.stderr.isatty()):
            raise ImportError
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:  # the base install has no rich
        yield None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def thread_count(text: str) -> int | None:
    """Parse a number of threads; return None for auto."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of threads; write 1, 2, .. or auto")
    return int(text)


def kept_folder(text: str) -> Path:
    """Parse a folder that keeps something; an empty text, as of an unset variable, would be the working folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give a folder")
    return Path(text)


def wait_passively() -> None:
    """Make PyTorch's threads sleep while they wait for each other, so that they leave the processor to other threads.

    OpenMP reads the setting once, when PyTorch is loaded. A value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def print_json(value: Any) -> None:
    """Print one JSON document, with JSON's escapes if the output's encoding lacks a character."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    print(text)


def typed_ids(texts: Sequence[str], ids: ItemIds) -> list[Any]:
    """Convert ids from the command line to the bundle's kind of id: int or str."""
    if ids.kind == "str":
        return list(texts)
    numbers = []
    for text in texts:
        try:
            numbers.append(int(text))
        except ValueError:
            example = next(iter(ids))
            raise UsageError(f"item {text!r:.60}: this bundle's ids are whole numbers, such as {example}") from None
    return numbers


def add_ranking_options(parser: argparse.ArgumentParser, session: str, now: str) -> None:
    """Add -k, --exclude, --exclude-seen, --at and --rules. session: whose items; now: the default of --at."""
    parser.add_argument("-k", type=int, default=20, help="number of items to list (default: 20)")
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="ITEM", help="do not list this item; repeat for more"
    )
    parser.add_argument("--exclude-seen", action="store_true", help=f"do not list {session} own items")
    parser.add_argument(
        "--at", metavar="TIME",
        help="time to rank for, ISO-8601 (UTC if it names no offset) or Unix milliseconds, if the bundle was "
        f"trained with times (default: {now})",
    )  # fmt: skip
    parser.add_argument(
        "--rules", metavar="FILE", help="rules on the ranking, a JSON file or JSON: filter, boost, limit, pin"
    )


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Add --preset, --set, --weights, --device and --threads."""
    parser.add_argument("--preset", default=DEFAULT_PRESET, help=f"{', '.join(PRESETS)} (default: {DEFAULT_PRESET})")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE",
        help="change a setting (see 'mtaw-fast train --help'); repeat for more",
    )  # fmt: skip
    text = WEIGHTS_HELP.format(what="the losses and the validation metrics")
    parser.add_argument("--weights", metavar="TYPE=W,..", help=text)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    parser.add_argument(
        "--threads", type=thread_count, metavar="N|auto",
        help="threads of the loss and the session memory; results do not depend on it (default: auto, the processors "
        "that affinity and CPU quota allow)",
    )  # fmt: skip


def config_of(arguments: argparse.Namespace, **shortcuts: Any) -> Config:
    """Return the settings of --preset, --set and --weights. shortcuts: further settings, None where not given."""
    shortcuts["type_weights"] = arguments.weights
    given = [f"{name}={value}" for name, value in shortcuts.items() if value is not None]
    return preset(arguments.preset).override([*arguments.set, *given])


def rules_in(text: str | None) -> dict[str, Any] | None:
    """Return the rules in a JSON file, or JSON itself, checked except for the columns; None without any."""
    return None if text is None else rule_set_of(json_in("--rules", text)).source


def json_in(flag: str, text: str) -> Any:
    """Return what a JSON file, or JSON itself, holds."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(f"{flag} {shown(text, 60)} is not JSON ({error}); mend it, or name a file") from None
    return read_json(Path(text), lambda reason: UsageError(f"{flag}: {reason}; name a JSON file, or write {{..}}"))
