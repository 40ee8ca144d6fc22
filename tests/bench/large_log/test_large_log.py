"""The bench of large logs: the log in pieces, phases that go on where a run ended, the total of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.large_log import command
from bench.large_log import log as large_log
from bench.large_log.log import LogSize, lengths_of, write_log
from bench.large_log.phases import OPTIONS, PHASES, Measured, Setting
from mtaw_fast.data.readers import read
from mtaw_fast.errors import MtawError

FACTS: dict[str, dict[str, Any]] = {
    "ranker": {"ranker_samples": 150_000},
    "encoder": {"steps_s": 36.0, "samples": 100, "samples_an_epoch": 1000},
    "validate": {"ranked_s": 3.6, "ranked": 10, "validation_samples": 100},
}


def test_the_log_is_written_in_pieces_that_prepare_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_log, "PIECE", 100)
    size = LogSize(4000)
    assert write_log(tmp_path / "log", size) == 3
    before = {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()}
    (tmp_path / "log/part-0001.jsonl").unlink()
    assert write_log(tmp_path / "log", size) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "log").iterdir()} == before
    first = json.loads(before["part-0001.jsonl"].splitlines()[0])
    assert first["session"] == 100
    assert first["events"][0].keys() == {"aid", "ts", "type"}
    dataset = read("clicks", tmp_path / "log", options=OPTIONS)
    assert dataset.type_names == ("carts", "clicks", "orders")
    assert dataset.preparation["sessions"] == size.sessions == 240


def test_sessions_are_as_long_as_ottos() -> None:
    lengths = lengths_of(200_000, np.random.default_rng(0))
    assert lengths.mean() == pytest.approx(large_log.MEAN_LENGTH, abs=0.2)
    assert np.median(lengths) == 6
    assert np.percentile(lengths, 90) == pytest.approx(39, abs=2)
    assert (lengths.min(), lengths.max()) == (2, 500)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The phases that are measured, in order; each takes 36 s and 2 GB, and `start` fails at first."""
    names: list[str] = []

    def fake(name: str, _: Setting) -> Measured:
        names.append(name)
        if names.count("start") == 1 and name == "start":
            raise MtawError("phase start: its process ended early")
        return Measured(40.0, 36.0, 2 * 10**9, FACTS.get(name, {}))

    monkeypatch.setattr(command, "measure", fake)
    return names


def test_a_run_goes_on_where_one_ended(tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run = [str(tmp_path), "--events", "1e5", "--json", str(tmp_path / "out.json")]
    assert command.main(run) == 1
    assert measured == ["log", "prepare", "tables", "trends", "start"]
    assert command.main(run) == 0
    assert measured[5:] == ["start", "encoder", "ranker", "validate"]
    assert command.main(run) == 0
    assert len(measured) == 9
    assert "peak 2.0 GB of 16" in capsys.readouterr().out
    results = json.loads((tmp_path / "out.json").read_text())["results"]
    rows = {(row["case"], row["metric"]): row["p50"] for row in results if "p50" in row}
    assert rows["prepare", "processor_s"] == 36
    # An epoch takes 360 s, validation 36; prepare, tables, trends, start and ranker 36 each.
    assert rows["one epoch, no refit", "processor_h"] == pytest.approx((1 + 2 + 20 + 1 + 4 + 1) / 100, rel=1e-4)
    assert rows["preset full", "processor_h"] == pytest.approx((1 + 4 + 80 + 2 + 4 + 1) / 100, rel=1e-4)


def test_misuse_is_refused(tmp_path: Path, measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(tmp_path), "--events", "1e5", "--only", "log"]) == 0
    for other in (["--events", "2e5"], ["--ranked", "7"], ["--ranker-samples", "100"], ["--memory", "2"]):
        assert command.main([str(tmp_path), "--events", "1e5", *other]) == 1
        assert "phases.json: its phases have " in capsys.readouterr().err
    kept = tmp_path / "phases.json"
    value = json.loads(kept.read_text())
    kept.write_text(json.dumps({**value, "setting": {**value["setting"], "commit": "0"}}))
    assert command.main([str(tmp_path), "--events", "1e5"]) == 1
    assert "phases.json: its phases have commit 0, not " in capsys.readouterr().err
    (tmp_path / "none").mkdir()
    for text in ("[]", "{}", '{"events": 100000, "phases": {}}'):
        (tmp_path / "none/phases.json").write_text(text)
        assert command.main([str(tmp_path / "none")]) == 1
        assert "does not hold the phases of this bench; remove it or name another folder" in capsys.readouterr().err
    assert command.main([str(tmp_path), "--only", "nothing"]) == 2
    assert ", ".join(PHASES) in capsys.readouterr().err
    assert measured == ["log"]


def test_a_generated_bundle_is_served_in_a_new_process(tmp_path: Path) -> None:
    assert command.main([str(tmp_path), "--serve", "1500", "--json", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["results"]
    values = {row["metric"]: row["p50"] for row in rows}
    assert {row["params"]["index"] for row in rows} == {"native"}
    assert all(value > 0 for value in values.values())
    assert values["processor_ms_p50"] <= values["processor_ms_p90"]
