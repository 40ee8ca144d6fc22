"""What several commands share: a bar on a terminal, and odd standard outputs."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from mtaw_fast.cli import main
from mtaw_fast.cli.common import progress_bar
from tests.support.random_bundle import save_random


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_encoding_that_lacks_a_character_shows_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    save_random(tmp_path / "bundle")
    printed = []
    for options in ((), ("--json",)):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
        assert main(["recommend", str(tmp_path / "bundle"), "é日🙂", "\udcff", "-k", "1", *options]) == 0
        printed.append(raw.getvalue().decode(encoding))
    assert printed[0].startswith("not in the catalog: ")
    assert "\\udcff" in printed[0]
    assert json.loads(printed[1])["unknown"] == ["é日🙂", "\udcff"]


def test_a_closed_standard_output_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_random(tmp_path / "bundle")
    monkeypatch.setattr(sys, "stdout", None)
    for options in ((), ("--json",)):
        assert main(["recommend", str(tmp_path / "bundle"), "-k", "1", *options]) == 0
