"""Every error that a user can meet: one line that names the thing, the place and the remedy."""

from __future__ import annotations

import importlib
from types import ModuleType

from mtaw_fast.errors.install_command import install_command


class MtawError(Exception):
    """Base of the library's errors. The message is one line; `exit_code` is the CLI's exit status."""

    exit_code = 1


class UsageError(MtawError):
    """The caller asked for something that makes no sense (a bad option, argument or config value)."""

    exit_code = 2


class ItemTypeError(UsageError):
    """Every id of a session is of another type than the catalog's ids: text for numbers, or numbers for text."""


class DataError(MtawError):
    """A click log, data set or session container is malformed."""


class BundleError(MtawError):
    """A bundle is missing, damaged, of a newer format, or cannot be written."""


class TrainingError(MtawError):
    """Training cannot go on (non-finite loss, a clashing run folder, a broken checkpoint)."""


class LearnError(MtawError):
    """Events could not be kept, or what was learned could not be read."""


class MissingPackageError(MtawError):
    """An optional package is not installed; the message names the extra that brings it."""


class UnsupportedError(MtawError):
    """No backend of an op takes these arguments; the message lists every backend's reasons."""


class DataWarning(UserWarning):
    """Something in a log, or in what is compared with what, that makes figures other than they seem."""


def shown(value: object, most: int = 100) -> str:
    """`value` for a message: its repr, on one line, cut after `most` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or raise MissingPackageError naming the command that installs it here."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).split(".")[0]
        if missing != module.split(".")[0]:
            raise
        raise MissingPackageError(f"the package '{missing}' is not installed: {install_command(extra)}") from None
