"""A Ray that a test makes up."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any


class LostError(Exception):
    """Stands for Ray's error of an actor that does not answer."""


class Serve:
    """A Ray Serve that lists a deployment only from the second check on, and never gets it to run."""

    exceptions = SimpleNamespace(RayServeException=LostError)

    def __init__(self) -> None:
        self.applications: dict[str, Any] = {}
        self.looks, self.looked, self.never = 0, threading.Event(), threading.Event()
        self.running: threading.Thread | None = None

    def start(self, **_: Any) -> None:
        """See Ray Serve."""

    def run(self, application: Any, *, name: str, route_prefix: str) -> None:
        """See Ray Serve."""
        self.running = threading.current_thread()
        self.looked.wait()
        self.applications[name] = SimpleNamespace(deployments={})
        self.never.wait()

    def status(self) -> Any:
        """See Ray Serve."""
        self.looks += self.running is not None
        if self.looks > 1:
            self.looked.set()
        return SimpleNamespace(applications=dict(self.applications))

    def delete(self, name: str) -> None:
        """See Ray Serve."""
        self.applications.pop(name, None)
        self.looked.set()
