"""The command `score`, and its errors."""

from __future__ import annotations

import pytest

from mtaw_fast.cli import main
from tests.support.scoring.inputs import random_sessions

ROWS = random_sessions(300)


def score(*arguments: object) -> int:
    return main(["score", *map(str, arguments), "--json"])


def one_line(capsys: pytest.CaptureFixture, named: str) -> bool:
    error = capsys.readouterr().err
    return error.count("\n") == 1 and named in error
