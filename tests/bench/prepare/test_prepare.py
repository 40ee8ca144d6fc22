"""The prepare bench: its log is what it says, its figures have the bench JSON schema."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from bench.prepare import command as prepare


def test_the_log_is_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_CHUNK_ROWS", 7_000)
    sessions = prepare.write_log(tmp_path / "log.csv", 20_000)
    frame = pl.read_csv(tmp_path / "log.csv", schema_overrides={"session_id": pl.String})
    assert frame.height == 20_000
    assert frame["session_id"].n_unique() == sessions
    assert frame["timestamp"].is_sorted()
    runs = len(frame["session_id"].rle())
    assert runs > sessions * 1.02  # some interleave even at this size


def test_json_and_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "prepare.json"
    assert prepare.main(["--rows", "20000", "--json", str(target)]) == 0
    results = {row["metric"]: row for row in json.loads(target.read_text())["results"]}
    assert set(results) == {"prepare_s", "rows_per_s", "peak_mb", "added_mb"}
    assert results["peak_mb"]["params"]["rows"] == 20_000
    assert 10 < results["peak_mb"]["p50"] < 2_000
    assert results["prepare_s"]["floor"] < results["prepare_s"]["p50"]
    monkeypatch.setattr(prepare, "_LIMIT_BYTES", 1_000_000)
    assert prepare.main(["--rows", "20000"]) == 1
    assert prepare.main(["--rows", "10"]) == 2
    assert "raise it" in capsys.readouterr().err
