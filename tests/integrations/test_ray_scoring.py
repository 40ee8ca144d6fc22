"""`score --ray`: the same bytes as the local path, even if workers die; errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.cli import main
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
@pytest.mark.parametrize("again", [("--ray", "--actors", 2), ()], ids=["on Ray", "here"])
def test_a_killed_driver_is_followed_by_a_run_over_the_rest(
    bundle: Path, sessions: Path, whole: dict[str, str], tmp_path: Path, again: tuple[object, ...]
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
    status, _, error = ended(started("score", bundle, sessions, out, *OPTIONS, *again))
    assert (status, error) == (0, "")
    assert contents(out) == whole
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


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
