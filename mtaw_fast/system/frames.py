"""Columns as a table of Polars, pandas or Arrow; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal

from mtaw_fast.errors import MissingPackageError, UsageError, require
from mtaw_fast.errors.install import install_packages

Library = Literal["polars", "pandas", "arrow"]


def frame_of(columns: Mapping[str, Any], library: str) -> Any:
    """Return columns of equal length as a table of the library `library`.

    Raises MissingPackageError if the library is not installed, UsageError on another library.
    """
    if library == "polars":
        return require("polars", "train").DataFrame(dict(columns))
    if library == "pandas":
        return _installed("pandas").DataFrame(dict(columns))
    if library == "arrow":
        return _installed("pyarrow").table(dict(columns))
    raise UsageError(f"to_frame: there is no library {library!r}; choose polars, pandas or arrow")


def _installed(package: str) -> Any:
    """Import a package that is in none of our extras."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingPackageError(f"the package '{package}' is not installed: {install_packages(package)}") from None
