"""Shared parts of the commands: option groups, progress bars, JSON output, and parsing of ids, times and numbers."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError
from mtaw_fast.rules import rule_set_of
from mtaw_fast.storage.files import read_json

Bar = Callable[[str, int, int], None]  # called as bar(what, done, total)
WEIGHTS_HELP = (
    "weight of a target by its event type, such as view=1,cart=3,purchase=8, in {what}; a type that is not named has "
    "weight 1, and weight 0 removes a type (default: all 1)"
)
_SLICES_HELP = (
    "item attributes and context columns to slice the metrics by (default: all context columns, and the attributes "
    "with at most 50 values)"
)


def names_in(text: str | None) -> list[str] | None:
    """Split comma-separated names; None without the option."""
    return None if text is None else [name for name in text.split(",") if name]


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
        "--index",
        default="auto",
        help="auto, native, numpy, faiss-flat, faiss-gpu, faiss-gpu:1 or ann (default: auto)",
    )


def add_evaluation_options(
    parser: argparse.ArgumentParser, *, split_help: str = "which samples", weights: bool
) -> None:
    """Add --split, --slices, --weights if wanted, and those of `add_serving_options`.

    split_help: what the split chooses.
    """
    parser.add_argument("--split", choices=("test", "validation"), default="test", help=split_help)
    if weights:
        parser.add_argument(
            "--weights", metavar="TYPE=W,..",
            help=WEIGHTS_HELP.format(what="weighted metrics, printed after the plain ones"),
        )  # fmt: skip
    parser.add_argument("--slices", metavar="NAME,..", help=_SLICES_HELP)
    add_serving_options(parser)


def evaluation_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the values of `add_evaluation_options`, by the names of the keywords of `workflow.evaluate`."""
    weights = {"weights": arguments.weights} if "weights" in arguments else {}
    return {
        "split": arguments.split,
        "slices": names_in(arguments.slices),
        "encoder": arguments.encoder,
        "index": arguments.index,
        **weights,
    }


def print_warnings(lines: Iterable[str]) -> None:
    """Print warnings on standard error, a line each."""
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


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
            raise UsageError(f"item {text!r:.60}: this bundle's item ids are integers") from None
    return numbers


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Add the option for rules on a ranking."""
    parser.add_argument(
        "--rules", type=Path, metavar="FILE",
        help="JSON file with rules on the ranking: filter, boost, limit, pin",
    )  # fmt: skip


def rules_in(path: Path | None) -> dict[str, Any] | None:
    """Return the rules in a JSON file, checked except for the columns; None without a file."""
    if path is None:
        return None
    rules = read_json(path, lambda reason: UsageError(f"--rules: {reason}"))
    return rule_set_of(rules).source
