"""What goes wrong with a request, as an HTTP status, a code for programs and one line for people."""

from __future__ import annotations

from mtaw_fast.errors import MtawError

_LONGEST = 500  # characters of a message
_RETRY_AFTER = 1  # seconds that a client is asked to wait after a 503


class ServiceError(MtawError):
    """An error answer. status: the HTTP status. code: what went wrong, for programs. The message is one line."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """Headers that go with the status."""
        if self.status == 503:
            return {"Retry-After": str(_RETRY_AFTER)}
        return {"WWW-Authenticate": "Bearer"} if self.status == 401 else {}


def invalid(code: str, message: str) -> ServiceError:
    """A request that can never succeed as it stands."""
    return ServiceError(400, code, message)


def unavailable(code: str, message: str) -> ServiceError:
    """A request that may succeed later."""
    return ServiceError(503, code, message)


def one_line(message: str) -> str:
    """The message without what a request may have put into it: line breaks, control characters, endless text."""
    text = "".join(one if one.isprintable() else "?" for one in " ".join(message[: 2 * _LONGEST].split()))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
