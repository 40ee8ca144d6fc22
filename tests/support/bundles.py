"""A bundle that must be refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import BundleError


def refused(folder: Path, verify: bool = True) -> str:
    """Return the one-line message with which the folder is refused."""
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)
