"""Files of JSON objects, one a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mtaw_fast.errors import DataError


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the object of every line. Raises DataError on a line that is none."""
    objects = []
    with path.open(encoding="utf-8") as file:  # splitlines would also cut texts at U+2028 and the like
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise DataError(f"{path}, line {number}, is no JSON object")
            objects.append(value)
    return objects
