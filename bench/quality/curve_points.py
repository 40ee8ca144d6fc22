"""Curves kept as a line of JSON a point, and the numbers that a curve is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtaw_fast.errors import UsageError


def whole_numbers(option: str, text: str, least: int = 0) -> list[int]:
    """Numbers with commas, as an option has them; UsageError on what is none, or below `least`."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [least - 1]
    if min(numbers) < least:
        raise UsageError(f"{option} {text}: give whole numbers from {least} on, with commas, such as 1000,2000")
    return numbers


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The points of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Replace the points of a file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
