"""The id that every ranking carries: what comes of it is told by that id, and it says which bundle made it.

    0f3a6c1d2b4e5f60-9b1c5e7d20aa0000002f        bundle version, what this process drew at its start, a running number

So whoever is told needs no table of what was answered, and no worker has to ask another one.
"""

from __future__ import annotations

import itertools
import re
import secrets

PATTERN = "^[0-9a-f]{16}-[0-9a-f]{20,28}$"
EXAMPLE = "0f3a6c1d2b4e5f60-9b1c5e7d20aa0000002f"
_VERSION = 16  # hex digits

_WHOLE = re.compile(PATTERN.removesuffix("$"))
_process = secrets.token_hex(6)
_numbers = itertools.count()


def new_id(version: str) -> str:
    """An id that no other ranking of any process has, for one by the bundle of that version. Thread-safe."""
    return f"{version}-{_process}{next(_numbers):08x}"


def is_id(text: str) -> bool:
    """Whether a text has the form of an id. JSON Schema's `$`, as Python reads it, lets a line end pass."""
    return _WHOLE.fullmatch(text) is not None


def version_in(recommendation: str) -> str:
    """The bundle version that an id names."""
    return recommendation[:_VERSION]
