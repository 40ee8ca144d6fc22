"""What the tests of the commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast.cli import main
from tests.support.cli import TINY, write_log
from tests.support.training.curves import undrawn


@pytest.fixture(scope="package", autouse=True)
def undrawn_curves() -> Iterator[None]:
    """Leave the curves of trainings undrawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        yield


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, a data set and a bundle, made by the commands."""
    folder = tmp_path_factory.mktemp("work")
    write_log(folder / "clicks.csv")
    assert main(["prepare", "clicks", f"{folder}/clicks.csv", f"{folder}/dataset", "--test-days", "2"]) == 0
    assert main(["train", f"{folder}/dataset", f"{folder}/bundle", "--epochs", "3", *TINY, "--json"]) == 0
    return folder
