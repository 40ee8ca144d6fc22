"""What several commands share: a bar on a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from mtaw_fast.cli.common import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    for wanted, stream in ((False, terminal), (True, io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_bar(wanted) as bar:
            assert bar is None
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_bar(True) as bar:
        assert bar is not None
        bar("score", 3, 10)
    assert "score" in terminal.getvalue()
    assert "3/10" in terminal.getvalue()
