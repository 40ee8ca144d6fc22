"""The options of `--learn`."""

from __future__ import annotations

import pytest

from mtaw_fast.cli import _parser
from mtaw_fast.cli.learning_options import learning_settings


@pytest.mark.parametrize(
    ("given", "min_clicks"), [([], 1), (["--min-clicks", "3"], 3), (["--learn-limit", "min_clicks=4"], 4),
    (["--min-clicks", "3", "--learn-limit", "min_clicks=4"], 4)],
)  # fmt: skip
def test_a_learn_limit_wins_over_min_clicks(given: list[str], min_clicks: int) -> None:
    arguments = _parser().parse_args(["serve", "shop.bundle", "--learn", "log", "--learn-limit", "late=7", *given])
    settings = learning_settings(arguments)
    assert settings is not None
    assert (settings.limits.min_clicks, settings.limits.late) == (min_clicks, 7)
