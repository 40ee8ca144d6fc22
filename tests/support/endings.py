"""How the opening of a bundle ends in Python and in C."""

from __future__ import annotations

from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import BundleError
from tests.support.libmtaw import MAP, NO_VERIFY, CallError, Client


def endings(folder: Path, verify: bool) -> tuple[str, str]:
    """Return how Python and C end, "" or the reason."""
    ends = ["", ""]
    try:
        Bundle.load(folder, verify=verify, mapping="map")
    except BundleError as error:
        ends[0] = str(error)
    try:
        with Client(folder, MAP | (0 if verify else NO_VERIFY)):
            pass
    except CallError as error:
        ends[1] = str(error)
    return ends[0], ends[1]
