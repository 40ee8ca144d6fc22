"""The options of `--learn`."""

from __future__ import annotations

import pytest

from mtaw_fast.cli import _parser, main
from mtaw_fast.cli.learning_options import learning_settings
from mtaw_fast.errors import UsageError


@pytest.mark.parametrize(
    ("given", "min_clicks"), [([], 1), (["--min-clicks", "3"], 3), (["--learn-limit", "min_clicks=4"], 4),
    (["--min-clicks", "3", "--learn-limit", "min_clicks=4"], 4)],
)  # fmt: skip
def test_a_learn_limit_wins_over_min_clicks(given: list[str], min_clicks: int) -> None:
    arguments = _parser().parse_args(["serve", "shop.bundle", "--learn", "log", "--learn-limit", "late=7", *given])
    settings = learning_settings(arguments)
    assert settings is not None
    assert (settings.limits.min_clicks, settings.limits.late) == (min_clicks, 7)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--learn", ""], "--learn is empty"),  # an unset variable of a shell must not mean the working folder
        (["--learn", "log", "--retention", "nand"], "must be above 0"),
        (["--learn", "log", "--learn-folder", "other"], "--learn-folder goes with --learn redis://"),
        (["--fsync"], "--fsync goes with --learn; give --learn, or leave --fsync out"),
        (["--retention", "12h"], "--retention goes with --learn"),
        (["--learn-limit", "late=7"], "--learn-limit goes with --learn"),
        (["--learn-folder", "log"], "--learn-folder goes with --learn"),
    ],
)
def test_values_without_a_meaning_are_refused(given: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        learning_settings(_parser().parse_args(["serve", "shop.bundle", *given]))


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "shop.bundle", "--state", ""],
        ["serve", "shop.bundle", "--learn", "redis://localhost:6379/0", "--learn-folder", ""],
        ["items", "shop.bundle", "items.csv", "--state", ""],
        ["items", "shop.bundle", "items.csv", "--learn", ""],
    ],
    ids=" ".join,
)
def test_an_empty_folder_is_not_the_working_folder(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert "is empty" in capsys.readouterr().err


def test_a_folder_of_compacted_bundles_is_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["items", "shop.bundle", "items.csv", "--learn-folder", "log"]) == 2
    assert "--learn-folder goes with --learn; " in capsys.readouterr().err
