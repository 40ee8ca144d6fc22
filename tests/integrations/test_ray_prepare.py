"""`prepare --ray`: the same bits as in one process, even if workers die; errors in one line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.errors import DataError
from mtaw_fast.integrations.cluster import Tasks
from mtaw_fast.integrations.ray_prepare import prepare_on_ray
from tests.support.integrations.processes import ended, gone, kill, started, wait_for, workers

OPTIONS = ("--partitions", 6, "--test-days", 3, "--json")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In five parts."""
    folder = tmp_path_factory.mktemp("log")
    write_click_log(folder / "whole.csv", n_items=3000, n_sessions=30_000, seed=1)
    rows = pl.read_csv(folder / "whole.csv", infer_schema=False)
    (folder / "parts").mkdir()
    for number, part in enumerate(rows.iter_slices(40_000)):
        part.write_csv(folder / "parts" / f"{number}.csv")
    return folder / "parts"


@pytest.fixture(scope="module")
def whole(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    """Fingerprint and preparation of what one process makes."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    assert main(["prepare", "clicks", str(log), str(folder), "--test-days", "3", "--json"]) == 0
    return known(folder)


def known(folder: Path) -> tuple[str, dict]:
    dataset = Dataset.load(folder)
    return dataset.fingerprint, dict(dataset.preparation)


def test_partitions_without_ray(
    log: Path, whole: tuple[str, dict], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["prepare", "clicks", str(log), str(tmp_path / "set"), *map(str, OPTIONS)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert known(tmp_path / "set") == whole
    assert (printed["parts"], printed["fingerprint"]) == (6, whole[0])
    assert main(["info", str(tmp_path / "set"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {key: printed[key] for key in printed if key != "dataset"}


def test_what_makes_no_sense_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for arguments, status, message in (
        (("npz", "somewhere", "set", "--ray"), 2, "--ray works only with the format clicks"),
        (("tmall", "somewhere", "set", "--partitions", "3"), 2, "--partitions works only with the format clicks"),
        (("clicks", "somewhere", "set", "--ray", "nowhere"), 2, "is not an address; write HOST:PORT"),
        (("clicks", "somewhere", "set", "--ray", "127.0.0.1:1"), 1, "the Ray cluster at 127.0.0.1:1 does not answer"),
        (("clicks", "somewhere", "set", "--partitions", "0"), 2, "at least 1"),
        (("clicks", "somewhere", "set", "--partitions", "2"), 1, "does not exist"),
    ):
        assert main(["prepare", *(str(tmp_path / text) if text == "set" else text for text in arguments)]) == status
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_on_ray_the_same_bits(ray_here: object, log: Path, whole: tuple[str, dict], tmp_path: Path) -> None:
    from mtaw_fast.data.readers import ClickOptions

    report = prepare_on_ray(log, tmp_path / "set", ClickOptions(test_days=3), partitions=4)
    assert known(tmp_path / "set") == (whole[0], {**whole[1], "log": report.as_dict()})
    bad = tmp_path / "bad.csv"
    bad.write_text("session_id,item_id,timestamp\n1,2,3\n1,2,never\n1,,4\n")
    with pytest.raises(DataError, match="column 'item_id' is empty in data row 3") as caught:
        prepare_on_ray(bad, tmp_path / "none")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.ray
def test_a_killed_worker_costs_time_alone(log: Path, whole: tuple[str, dict], tmp_path: Path) -> None:
    folder = tmp_path / "set"
    running = started("prepare", "clicks", log, folder, *OPTIONS, "--ray")
    wait_for(lambda: list(folder.glob(".prepare-*/rows-*")) and workers(running, "ray::scatter"), running)
    kill(workers(running, "ray::scatter")[0])
    status, _, error = ended(running)
    assert (status, error) == (0, "")
    assert known(folder) == whole
    assert not list(folder.glob(".*"))


@pytest.mark.ray
def test_a_killed_driver_leaves_no_set_and_the_command_runs_again(
    log: Path, whole: tuple[str, dict], tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    running = started("prepare", "clicks", log, folder, *OPTIONS, "--ray")
    wait_for(lambda: list(folder.glob(".prepare-*/cut-*")), running)
    below = workers(running, "ray::")
    kill(running)
    running.communicate()
    assert gone(below)
    assert not (folder / "manifest.json").exists()
    status, _, error = ended(started("prepare", "clicks", log, folder, *OPTIONS, "--ray"))
    assert (status, error) == (0, "")
    assert known(folder) == whole
    assert not list(folder.glob(".*"))


def test_where_a_task_fails_the_others_write_no_more(ray_here: Any, tmp_path: Path) -> None:
    def write_or_fail(number: int, folder: Path) -> None:
        file = folder / str(number)
        while number > 0:
            with file.open("a") as out:
                out.write(".")
            time.sleep(0.01)
        while not all((folder / str(other)).exists() for other in (1, 2)):
            time.sleep(0.01)
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        Tasks(ray_here).run(write_or_fail, [(number, tmp_path) for number in range(3)])
    sizes = [path.stat().st_size for path in sorted(tmp_path.iterdir())]
    time.sleep(0.5)
    assert [path.stat().st_size for path in sorted(tmp_path.iterdir())] == sizes
    assert len(sizes) == 2
