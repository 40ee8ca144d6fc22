"""`score --ray`: the same bytes as the local path, even if workers die; errors in one line."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from mtaw_fast.cli import main
from mtaw_fast.errors.install import install_command
from tests.support.integrations.processes import ended, gone, kill, parts, started, wait_for, workers
from tests.support.random_bundle import bundle_parts, contents, memory_parts, save_parts
from tests.support.scoring import random_sessions, write_sessions

OPTIONS = ("--block-rows", 2000, "-k", 20, "--json")
BLOCKS = 40


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "bundle"
    save_parts(folder, **bundle_parts(n_items=2000, embedding_dim=64), **memory_parts(n_items=2000))
    return folder


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = random_sessions(2000 * BLOCKS, n_items=2000)
    return write_sessions(tmp_path_factory.mktemp("ray") / "sessions.parquet", rows, group=7000)


@pytest.fixture(scope="module")
def whole(bundle: Path, sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the local path writes: name and hash of every file."""
    out = tmp_path_factory.mktemp("ray") / "whole"
    assert main(["score", *map(str, (bundle, sessions, out, *OPTIONS))]) == 0
    return contents(out)


@pytest.mark.ray
def test_ray_writes_the_local_bytes(bundle: Path, tmp_path: Path) -> None:
    source = write_sessions(tmp_path / "few.parquet", random_sessions(900, n_items=2000), group=250)
    for out, ray in (("local", ()), ("ray", ("--ray", "--actors", 2))):
        status, _, error = ended(started("score", bundle, source, tmp_path / out, "--block-rows", 200, "--json", *ray))
        assert (status, error) == (0, "")
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def test_without_the_extra_it_is_one_line(
    bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = importlib.import_module

    def without_ray(name: str, package: str | None = None) -> object:
        if name.split(".")[0] == "ray":
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", without_ray)
    assert main(["score", str(bundle), str(sessions), str(tmp_path / "out"), "--ray"]) == 1
    assert capsys.readouterr().err == f"mtaw-fast: the package 'ray' is not installed: {install_command('ray')}\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
@pytest.mark.parametrize(
    ("address", "status", "named"),
    [
        ("127.0.0.1:1", 1, "the Ray cluster at 127.0.0.1:1 does not answer"),
        ("ray://127.0.0.1:1", 1, "does not answer"),
        ("nowhere", 2, "is not an address; write HOST:PORT"),
    ],
)
def test_a_lost_address_is_one_line(
    bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, address: str, status: int, named: str
) -> None:
    assert main(["score", str(bundle), str(sessions), str(tmp_path / "out"), "--ray", address]) == status
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
def test_a_killed_worker_loses_no_row_and_doubles_none(
    bundle: Path, sessions: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = started("score", bundle, sessions, out, *OPTIONS, "--ray", "--actors", 2)
    wait_for(lambda: parts(out) >= 2 and workers(running, "MapWorker"), running)
    kill(workers(running, "MapWorker")[0])
    status, _, error = ended(running)
    assert (status, error) == (0, "")
    assert contents(out) == whole


@pytest.mark.ray
def test_a_killed_driver_is_followed_by_a_run_over_the_rest(
    bundle: Path, sessions: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = started("score", bundle, sessions, out, *OPTIONS, "--ray", "--actors", 2)
    wait_for(lambda: parts(out) >= 5, running)
    below = workers(running, "MapWorker")
    kill(running)
    running.communicate()
    assert gone(below)
    assert not (out / "_SUCCESS").exists()
    before = {name: (out / name).stat().st_mtime_ns for name in whole if (out / name).exists()}
    status, _, error = ended(started("score", bundle, sessions, out, *OPTIONS, "--ray", "--actors", 2))
    assert (status, error) == (0, "")
    assert contents(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


@pytest.mark.ray
def test_a_local_run_goes_on_where_ray_was_killed(
    bundle: Path, sessions: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = started("score", bundle, sessions, out, *OPTIONS, "--ray", "--actors", 2)
    wait_for(lambda: parts(out) >= 3, running)
    below = workers(running, "MapWorker")
    kill(running)
    running.communicate()
    assert gone(below)
    assert main(["score", *map(str, (bundle, sessions, out, *OPTIONS))]) == 0
    assert contents(out) == whole


@pytest.mark.ray
def test_what_fails_in_an_actor_is_one_line(bundle: Path, sessions: Path, tmp_path: Path) -> None:
    """An actor cannot write where the driver could: the part's name is taken by a folder."""
    out = tmp_path / "out"
    running = started("score", bundle, sessions, out, *OPTIONS, "--ray", "--actors", 1)
    wait_for(lambda: (out / "_plan.json").exists(), running)
    (out / "part-000000.parquet").mkdir()
    status, _, error = ended(running)
    assert status == 1
    assert error.count("\n") == 1
    assert "cannot write" in error
    assert "part-000000.parquet" in error


@pytest.mark.ray
def test_actors_of_one_machine_share_the_bundle(bundle: Path, sessions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = started("score", bundle, sessions, out, *OPTIONS, "--ray", "--actors", 2)
    wait_for(lambda: parts(out) >= 4 and len(workers(running, "MapWorker")) == 2, running)
    copies = [
        {(link.stat().st_dev, link.stat().st_ino) for link in Path(f"/proc/{actor.pid}/fd").iterdir()
         if str(link.readlink()).startswith("/memfd:mtaw-")}
        for actor in workers(running, "MapWorker")
    ]  # fmt: skip
    assert ended(running)[0] == 0
    assert copies[0]
    assert copies[0] == copies[1]
