"""One local Ray, and replicas on it over the service tests' bundles, for all tests of this folder that ask for them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.integrations import ray_serve
from mtaw_fast.integrations.cluster import cluster
from mtaw_fast.service.settings import Limits
from tests.service.conftest import int_bundle, text_bundle
from tests.support.integrations.fake_ray import Serve
from tests.support.integrations.replicas import Replicas, free_port
from tests.support.redis_server import Redis

__all__ = ["int_bundle", "text_bundle"]


@pytest.hookimpl(tryfirst=True)  # before -m leaves anything out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start a Ray for `make ray`: on a busy or small host, the start alone can take too long."""
    for item in items:
        if "ray_here" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def ray_here() -> Iterator[Any]:
    """A local Ray that this process is connected to. It counts with more processors than there may be."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'mtaw-fast[ray]'")
    with cluster(cpus=8) as ray:
        yield ray
        from ray import serve

        serve.shutdown()


@pytest.fixture(scope="session")
def serve_port() -> int:
    """Where the cluster's Serve listens."""
    return free_port()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A running Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (Debian: apt-get install redis-server)")
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def text_service(ray_here: Any, serve_port: int, redis_server: Redis, text_bundle: Path) -> Replicas:
    """Two replicas over text ids, with the limits of the service tests and sessions in Redis."""
    limits = Limits(k=50, clicks=40, batch=5, results=200, body=4096, read_timeout=1)
    return Replicas(
        text_bundle, serve_port, "text", limits=limits, sessions=redis_server.url, trusted_hosts=("Shop.Example",)
    )


@pytest.fixture(scope="session")
def int_service(ray_here: Any, serve_port: int, int_bundle: Path) -> Replicas:
    """One replica over integer ids, below a prefix, without sessions."""
    return Replicas(int_bundle, serve_port, "int", "/numbers", replicas=1)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    fake = Serve()
    monkeypatch.setattr(ray_serve, "connected", lambda: None)
    monkeypatch.setattr(ray_serve, "require", lambda module, extra: fake)
    monkeypatch.setattr(ray_serve, "registry_of", lambda ray, name: None)
    monkeypatch.setattr(ray_serve, "current_version", lambda bundle: "1" * 16)
    for name in ("_check", "_check_address", "_application"):
        monkeypatch.setattr(ray_serve, name, lambda *_: None)
    yield fake
    fake.looked.set()
    fake.never.set()
