"""A cached property that is safe across forks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

Value = TypeVar("Value")

_MISSING = object()


class cached_property(Generic[Value]):  # noqa: N801 - a decorator is written as a function
    """A method as an attribute; its value is computed at the first use and kept in the instance's `__dict__`.

    Up to Python 3.11 functools.cached_property computes under one lock for all instances: a process that is forked
    meanwhile waits for the lock forever. Here several threads may compute the first value at the same time; all of them
    get the one that was stored first.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[Value]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> cached_property[Value] | Value:
        if instance is None:
            return self
        attributes = instance.__dict__
        value: Any = attributes.get(self._name, _MISSING)
        return attributes.setdefault(self._name, self._compute(instance)) if value is _MISSING else value
