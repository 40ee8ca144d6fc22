"""The errors of the library. A message is one line: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

from mtaw_fast.errors.install import install_command


class MtawError(Exception):
    """Base of the library's errors. The message is one line; `exit_code` is the CLI's exit status."""

    exit_code = 1


class UsageError(MtawError):
    """An option, argument or config value is invalid."""

    exit_code = 2


class ItemTypeError(UsageError):
    """All ids of a session are of another type than the catalog's ids: str instead of int, or int instead of str."""


class DataError(MtawError):
    """A click log, data set or session container is malformed."""


class EmptyLogError(DataError):
    """A click log has no row."""


class BundleError(MtawError):
    """A bundle is missing, damaged, of a newer format, or cannot be written."""


class LaterFormatError(BundleError):
    """A bundle is of a format that only a later release reads."""


class TrainingError(MtawError):
    """Training cannot continue (non-finite loss, a conflicting run folder, a broken checkpoint)."""


class LearnError(MtawError):
    """Events could not be stored, or the learned state could not be read."""


class MissingPackageError(MtawError):
    """An optional package is not installed; the message names the extra that brings it."""


class UnsupportedError(MtawError):
    """No backend of an op accepts these arguments; the message lists every backend's reasons."""


class DataWarning(UserWarning):
    """Something in a log or a comparison that makes the results misleading."""


def shown(value: object, max_length: int = 100) -> str:
    """Return the repr of `value` for a message: one line, at most `max_length` characters."""
    text = repr(value)
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a question for the name that was perhaps meant, or nothing; goes after a semicolon in a message."""
    matches = difflib.get_close_matches(name, [other for other in names if other != name], 1)
    return f"; did you mean {shown(matches[0], 60)}?" if matches else ""


def other_unit(time: int) -> str:
    """Return what to say of a number that is a time from 2001 to 2100 in another unit than Unix milliseconds, or ""."""
    for unit, factor, divisor in (("seconds", 1000, 1), ("microseconds", 1, 1000), ("nanoseconds", 1, 1_000_000)):
        milliseconds = time * factor // divisor
        if 1_000_000_000_000 <= milliseconds <= 4_102_444_800_000:
            return f" is in {unit}; write it in milliseconds, {milliseconds}"
    return ""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or raise MissingPackageError naming the command that installs it here."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).split(".")[0]
        if missing != module.split(".")[0]:
            raise
        raise MissingPackageError(f"the package '{missing}' is not installed: {install_command(extra)}") from None
