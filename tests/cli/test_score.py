"""`mtaw-fast score`: misuse as one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.timed_model import END, timed_model
from tests.support.scoring.command import ROWS, one_line, score
from tests.support.scoring.inputs import write_sessions


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("score") / "bundle"
    save_parts(folder, **bundle_parts(), **memory_parts())
    return folder


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sessions(tmp_path_factory.mktemp("score") / "sessions.parquet", ROWS, group=70)


def test_misuse_is_one_line(bundle: Path, sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    for arguments, message in (
        ([tmp_path / "mine"], "has other files than scores"),
        ([sessions], "is a file"),
        ([tmp_path / "out", "--actors", 2], "--actors needs --ray"),
        ([tmp_path / "out", "--at", "2020-01-01"], "was trained without times"),
        ([tmp_path / "out", "--block-rows", 0], "--block-rows must be at least 1"),
    ):
        assert score(bundle, sessions, *arguments) == 2
        assert one_line(capsys, message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [END // 1000, "2150-01-01"])
def test_a_wrong_time_leaves_no_plan(
    sessions: Path, tmp_path: Path, capsys: pytest.CaptureFixture, wrong: object
) -> None:
    """The right command would be refused in a folder with another plan."""
    Bundle.save(tmp_path / "bundle", timed_model(), metrics={}, dataset={})
    assert score(tmp_path / "bundle", sessions, tmp_path / "out", "--at", wrong) == 2
    assert one_line(capsys, "milliseconds")
    assert score(tmp_path / "bundle", sessions, tmp_path / "out", "--at", END) == 0
