"""What several commands share, and `mtaw-fast recommend`: its answers, and ids, times and bundles that it refuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.cli import main
from mtaw_fast.cli.common import progress_bar
from tests.support.cli import failure
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


def test_recommend_speaks_of_unknown_items_and_fallback(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", f"{work}/bundle", "nothing", "-k", "3"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("warning: the learned clicks end 2023-11-")
    assert "not in the catalog: nothing" in out
    assert "most popular items" in out, "years after the log, nothing rises"
    assert len(out.splitlines()) == 5
    assert main(["recommend", f"{work}/bundle", "nothing", "-k", "3", "--at", "2023-11-26", "--types", "odd"]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "items that are rising" in out
    assert "not known to the bundle: type=odd" in out


def test_the_bundle_serves_alike_in_another_process(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["recommend", f"{work}/bundle", "sku-7é", "--json", "--at", "2026-11-26T12:00"]
    capsys.readouterr()
    assert main(command) == 0
    printed = capsys.readouterr().out
    completed = subprocess.run(
        [sys.executable, "-m", "mtaw_fast", *command], capture_output=True, text=True, check=True
    )
    assert completed.stdout == printed


@pytest.mark.parametrize("text", ["²", "--5", "5.0", "", "9" * 5000])
def test_a_typed_id_that_is_no_integer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    save_random(tmp_path / "bundle", text=False)
    error = failure(["recommend", f"{tmp_path}/bundle", "--", "5", text], 2, capsys)
    assert "this bundle's ids are whole numbers, such as " in error
    assert repr(text)[:60] in error


@pytest.mark.parametrize("text", ["²²²²²²²²²²", "99999999999999999999", "9" * 5000])
def test_a_moment_of_odd_digits_is_one_line(work: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    error = failure(["recommend", f"{work}/bundle", "sku-1é", "--at", text], 2, capsys)
    assert f"--at {text!r} is not a time; write 2017-10-15" in error


def test_a_closed_pipe_is_no_failure(work: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    completed = subprocess.run(
        [sys.executable, "-m", "mtaw_fast", "recommend", f"{work}/bundle", "sku-1é", "--at", "2023-11-26"],
        stdout=write_end, stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(write_end)
    assert (completed.returncode, completed.stderr) == (0, "")
