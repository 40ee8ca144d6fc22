"""Choose an op's backend: the requested one, or the first that has no reason to refuse."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Protocol, TypeVar

from mtaw_fast.errors import UnsupportedError, UsageError


class Describable(Protocol):
    """An op's checked arguments."""

    def describe(self) -> str: ...


Request = TypeVar("Request", bound=Describable, contravariant=True)


class Backend(Protocol[Request]):
    """A module of a backend."""

    def not_supported_reasons(self, request: Request, /) -> list[str]: ...


def choose_backend(op: str, backends: Mapping[str, Backend[Request]], request: Request, backend: str) -> str:
    """Name of the backend that takes the request, the fastest first; the choice is logged once.

    backend: 'auto' or a name of `backends`. Raises UsageError on an unknown name, UnsupportedError with every
    backend's reasons if none takes the request.
    """
    if backend != "auto" and backend not in backends:
        raise UsageError(f"{op}: there is no backend {backend!r}; choose auto, {', '.join(backends)}")
    reasons = []
    for name in backends if backend == "auto" else (backend,):
        objections = backends[name].not_supported_reasons(request)
        if not objections:
            _log_choice(op, name)
            return name
        reasons.append(f"{name}: {', '.join(objections)}")
    raise UnsupportedError(f"{op}: no backend takes {request.describe()} ({'; '.join(reasons)})")


@cache
def _log_choice(op: str, name: str) -> None:
    logging.getLogger("mtaw_fast").info("%s: backend %s", op, name)
