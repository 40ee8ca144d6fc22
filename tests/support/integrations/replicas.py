"""Replicas on a local Ray, as tests ask them and as they die."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import psutil

from mtaw_fast.integrations.ray_serve import Scaling, deploy, health
from mtaw_fast.service.settings import Settings
from tests.support.service.running import Client

_PATIENCE = 20.0  # seconds in which Serve notices that all is well again


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Deployed(Client):
    """A running deployment."""

    def __init__(self, port: int, name: str, prefix: str) -> None:
        self.address, self.prefix, self.name = ("127.0.0.1", port), prefix, name

    def processes(self) -> list[psutil.Process]:
        """Its replicas, except those that died since they last reported."""
        pids = [replica.pid for replica in health(self.name).replicas]
        return [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]

    def assert_no_error(self) -> None:
        """Fail where it does not get well, and say why."""
        until = time.monotonic() + _PATIENCE
        while (problem := health(self.name).problem) is not None:
            assert time.monotonic() < until, problem
            time.sleep(0.1)


class Replicas(Deployed):
    """A deployment in the Ray that this process is connected to. settings: of `Settings`, except bundle and port."""

    def __init__(
        self, bundle: Path, port: int, name: str, prefix: str = "", replicas: int = 2, **settings: Any
    ) -> None:
        super().__init__(port, name, prefix)
        self._replicas, self._settings = replicas, settings
        self.version = self.roll(bundle)

    def roll(self, bundle: Path) -> str:
        """Deploy a bundle; its version."""
        scaling = Scaling(self._replicas, self._replicas, cpus=0.01)
        settings = Settings(bundle, port=self.address[1], **self._settings)
        self.version = deploy(settings, scaling, name=self.name, prefix=self.prefix or "/", patience=60)
        return self.version
