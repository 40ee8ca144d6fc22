"""Errors of a request: an HTTP status, a code for programs, a message of one line, and the JSON that carries them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from mtaw_fast.errors import MtawError

_MAX_MESSAGE = 500  # characters
_RETRY_AFTER = 1  # seconds, in the Retry-After header of a 503

Version = Annotated[
    str,
    Meta(
        description="The bundle that answered: 16 hex digits.", examples=["0f3a6c1d2b4e5f60"], pattern="^[0-9a-f]{16}$"
    ),
]


class ErrorDetail(Struct, kw_only=True):
    """What went wrong."""

    code: Annotated[str, Meta(description="For programs.")]
    message: Annotated[str, Meta(description="One line: what is wrong, where, and what to do.")]


class ErrorAnswer(Struct, kw_only=True):
    """An error, with the version of the bundle that is served."""

    error: ErrorDetail
    version: Version


class ServiceError(MtawError):
    """A request that gets an error response.

    Parameters
    ----------
    status : int
        The HTTP status.
    code : str
        What went wrong, for programs.
    message : str
        What went wrong, for people. `one_line` shortens it before it is sent.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.status == 503:
            return {"Retry-After": str(_RETRY_AFTER)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def invalid(code: str, message: str) -> ServiceError:
    """Return an error for a request that fails however often it is sent (400)."""
    return ServiceError(400, code, message)


def unavailable(code: str, message: str) -> ServiceError:
    """Return an error for a request that may succeed later (503)."""
    return ServiceError(503, code, message)


def one_line(message: str) -> str:
    """Return a message without line breaks and control characters, cut at 500 characters: it may quote a request."""
    text = "".join(char if char.isprintable() else "?" for char in " ".join(message[: 2 * _MAX_MESSAGE].split()))
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE - 3]}..."
