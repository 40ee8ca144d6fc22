"""A Ray that does not start, or goes away: one line, another try, and no process left. Without a Ray."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.integrations import cluster as cluster_module
from mtaw_fast.integrations.cluster import ClusterError, cluster
from tests.support.service.running import eventually

TIMED_OUT = "The current node timed out during startup. This could happen because ..\nthe GCS has become overloaded."


class FakeRay:
    """`ray` as far as `cluster` knows it: each start leaves a process, and the first `failing` ones fail."""

    def __init__(self, failing: int, error: Exception) -> None:
        self.failing, self.error = failing, error
        self.folders: list[Path] = []
        self.processes: list[subprocess.Popen] = []
        self.exceptions = __import__("ray.exceptions").exceptions

    def is_initialized(self) -> bool:
        return False

    def init(self, **settings: Any) -> None:
        self.folders.append(Path(settings.get("_temp_dir", "nowhere")))
        command = ["sh", "-c", "sleep 600; :", settings.get("_temp_dir", "elsewhere")]
        self.processes.append(subprocess.Popen(command))
        eventually(Path(f"/proc/{self.processes[-1].pid}/cmdline").read_bytes)
        if len(self.processes) <= self.failing:
            raise self.error

    def shutdown(self) -> None: ...


@contextlib.contextmanager
def faked(monkeypatch: pytest.MonkeyPatch, failing: int, error: Exception) -> Iterator[FakeRay]:
    fake = FakeRay(failing, error)
    monkeypatch.setattr(cluster_module, "find_ray", lambda _: fake)
    try:
        yield fake
    finally:
        for process in fake.processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", [Exception, RuntimeError, TimeoutError, ConnectionError])
def test_a_start_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    with faked(monkeypatch, 2, kind(TIMED_OUT)) as fake:
        with cluster() as ray:
            assert ray is fake
            assert len(set(fake.folders)) == 3
            assert [folder.exists() for folder in fake.folders] == [False, False, True]
            assert [process.wait(10) for process in fake.processes[:2]] == [-9, -9]
            assert fake.processes[2].poll() is None
        assert not fake.folders[2].exists()
        assert fake.processes[2].wait(10) == -9


def test_one_that_never_starts_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with faked(monkeypatch, 9, Exception(TIMED_OUT)) as fake:
        with (
            pytest.raises(ClusterError, match=r"Ray on this host failed \(The current node timed out") as caught,
            cluster(),
        ):
            raise AssertionError("it did not start")
        assert "\n" not in str(caught.value)
        assert len(fake.processes) == 3
        assert [process.wait(10) for process in fake.processes] == [-9, -9, -9]


def test_a_named_cluster_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with faked(monkeypatch, 9, ConnectionError("no one there")) as fake:
        with (
            pytest.raises(ClusterError, match=r"the Ray cluster at head:6379 does not answer \(no one there"),
            cluster("head:6379"),
        ):
            raise AssertionError("there is no one")
        assert len(fake.processes) == 1
        assert fake.processes[0].poll() is None  # not ours to end


def test_what_the_work_raises_is_not_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with faked(monkeypatch, 0, Exception()) as fake:
        with pytest.raises(ZeroDivisionError), cluster():
            _ = 1 / 0
        assert len(fake.processes) == 1
        assert fake.processes[0].wait(10) == -9
