"""`mtaw-fast prepare`: what it refuses, what it reports about a log, the defaults in its help."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.cli import main, prepare
from mtaw_fast.data.readers import FORMATS, ClickOptions
from tests.support.cli import failure, options, write_log


def test_a_full_disk_is_one_line_and_leaves_the_data_set_unmade(work: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from mtaw_fast.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    command = ["prepare", "clicks", f"{work}/clicks.csv", f"{tmp_path}/d"]
    completed = subprocess.run([sys.executable, "-c", limited, *command], capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    assert completed.stderr.startswith("mtaw-fast: cannot write")
    assert completed.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("option", ["--name", "--item", "--types", "SOURCE", "DATASET"])
def test_a_text_that_is_no_utf8_is_one_line(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, parted: bool
) -> None:
    """Such as a path of an older system hands over; a manifest holds none. Other signs that do not print may stand."""
    texts = {"SOURCE": f"{work}/clicks.csv", "DATASET": f"{tmp_path}/set", "--name": "n\u200bé\x07"}
    texts[option] = "caf\udce9" if option != "DATASET" else f"{tmp_path}/caf\udce9"

    def command() -> list[str]:
        options = [part for name, text in texts.items() if name.startswith("--") for part in (name, text)]
        return ["prepare", "clicks", texts["SOURCE"], texts["DATASET"], *options, *(["--partitions", "2"] * parted)]

    error = failure(command(), 2, capsys)
    assert f"{option} {texts[option]!r} is not UTF-8 text; give another name" in error
    assert not list(tmp_path.iterdir())
    if option == "--name":
        texts[option] = "n\u200bé\x07"
        assert main(command()) == 0
        assert json.loads((tmp_path / "set/manifest.json").read_text())["name"] == "n\u200bé\x07"


@pytest.mark.parametrize("parted", [False, True])
def test_a_column_of_types_that_is_not_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parted: bool
) -> None:
    rows = [f"s{row // 3},i{row % 5},{1_700_000_000 + row},{'view' if row % 2 else 'order'}" for row in range(60)]
    log = tmp_path / "log.csv"
    log.write_text("\n".join(["session_id,item_id,timestamp,Event", *rows]))
    command = ["prepare", "clicks", str(log), str(tmp_path / "set"), "--test-days", "0", "--overwrite"]
    command += ["--partitions", "2"] * parted
    warning = "column 'Event' is not read, so each of its rows counts as a click; --type Event"
    assert main([*command, "--min-support", "1"]) == 0
    assert warning in capsys.readouterr().err
    assert main([*command, "--min-support", "1", "--type", "Event"]) == 0
    assert warning not in capsys.readouterr().err


def test_the_defaults_that_prepare_tells_are_those_of_the_options() -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(ClickOptions)}
    for name, _, action in options():
        if name == "prepare" and action.dest in defaults and type(defaults[action.dest]) in (int, float, str):
            value = defaults[action.dest]
            assert f"(default: {value if isinstance(value, str) else f'{value:g}'})" in str(action.help), action.dest
    assert set(prepare._FORMATS) == set(FORMATS)


def test_prepare_tells_the_truth_about_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every event twice, a bot, a bad row, rows in 2099: counted, drawn, warned of, and kept."""
    write_log(tmp_path / "clicks.csv")
    head, *rows = (tmp_path / "clicks.csv").read_text().splitlines()
    rows = [row for row in rows for _ in range(2)]
    rows += [f"bot,sku-{k % 40}é,{1_700_000_000 + k}" for k in range(1500)]
    rows += ["late,sku-1é,4070908800", "late,sku-2é,4070908860", "broken,,soon"]
    (tmp_path / "odd.csv").write_text("\n".join([head, *rows]) + "\n")
    command = ["prepare", "clicks", f"{tmp_path}/odd.csv", f"{tmp_path}/set", "--test-days", "2"]
    assert "--bad-rows skip" in failure(command, 1, capsys)
    assert main([*command, "--bad-rows", "skip"]) == 0
    out = capsys.readouterr().out
    assert f"rows         {len(rows):,}, 1 bad; {len(rows) - 1:,} clicks\n" in out
    assert "1 too long; the longest has 1,500 clicks" in out
    assert "% on items that training never saw" in out
    bars = [line for line in out.splitlines() if "█" in line]
    assert [line.split()[0] for line in bars][:2] == ["2023-11-14", "2023-11-15"]
    assert ".. 27,4" in out
    assert "  2099-01-01 ▏ 2\n" in out
    warned = [line for line in out.splitlines() if line.startswith("warning: ")]
    for part in (
        "in the future",
        "after all others",
        "of more than 500 clicks",
        "logged twice",
        "too few: a useful model",
    ):
        assert any(part in line for line in warned), part
    assert main(["info", f"{tmp_path}/set"]) == 0
    printed = capsys.readouterr().out
    assert all(line in printed for line in [*bars, *warned])
    assert main(["info", f"{tmp_path}/set", "--json"]) == 0
    log = json.loads(capsys.readouterr().out)["log"]
    assert json.loads((tmp_path / "set/manifest.json").read_text())["preparation"]["log"] == log
    assert (log["rows"], log["bad_rows"], log["long_sessions"]) == (len(rows), 1, 1)
    assert [f"warning: {text}" for text in log["warnings"]] == warned
    assert (
        main([*command, "--bad-rows", "skip", "--dedupe", "1", "--overwrite", "--json", "--max-session", "none"]) == 0
    )
    log = json.loads(capsys.readouterr().out)["log"]
    assert log["dropped_repeats"] == (len(rows) - 1503) // 2
    assert not any("logged twice" in text for text in log["warnings"])
    assert any("a bot?" in text for text in log["warnings"])


def test_the_items_of_a_log_add_up_to_the_catalog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One item is rare, and one is clicked on the last day alone."""
    rows = [
        f"{session},{item},{1_700_000_000 + 3_600 * session + place}"
        for session in range(100)
        for place, item in enumerate(("a", "b", "rare" if session == 3 else "c", "late" if session > 92 else "a"))
    ]
    (tmp_path / "log.csv").write_text("\n".join(["session_id,item_id,timestamp", *rows]) + "\n")
    assert main(["prepare", "clicks", f"{tmp_path}/log.csv", f"{tmp_path}/set", "--test-days", "0.3"]) == 0
    line = "items        5: 1 under support, 1 only in sessions left out or in the test; 3 in the catalog\n"
    assert line in capsys.readouterr().out
    assert main(["info", f"{tmp_path}/set"]) == 0
    assert line in capsys.readouterr().out


def test_an_item_table_that_is_refused_leaves_no_parted_data_set(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "clicks", f"{work}/clicks.csv", f"{tmp_path}/set", "--partitions", "2", "--items"]
    assert "none.csv does not exist" in failure([*command, f"{tmp_path}/none.csv"], 1, capsys)
    assert not list(tmp_path.iterdir())
