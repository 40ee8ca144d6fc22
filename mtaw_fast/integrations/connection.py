"""The Ray that this process is connected to, and what it says, in one line."""

from __future__ import annotations

import re
from typing import Any

from mtaw_fast.errors import UsageError, require

NAMESPACE = "mtaw_fast"  # of all that is named in a cluster

_OURS = re.compile(r"mtaw_fast\.\S*Error: (.+)")  # an error of our own in a traceback that Ray hands on
_LONGEST = 400  # characters


def connected() -> Any:
    """The module `ray`. Raises MissingPackageError without the extra `ray`, UsageError without a connection."""
    ray = require("ray", "ray")
    if not ray.is_initialized():
        raise UsageError("this process is connected to no Ray; call ray.init first")
    return ray


def one_line(error: BaseException) -> str:
    """What went wrong, out of the pages in which Ray tells it: our own error where there is one, else the last line."""
    text = str(error)
    ours = _OURS.findall(text)
    lines = [line.strip() for line in (ours or text.splitlines()) if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:_LONGEST]
