"""The scoring bench: its rows have the bench JSON schema, and it needs a bundle with a memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.scoring.command import main
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts, save_random


def test_json_and_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_parts(tmp_path / "bundle", **bundle_parts(), **memory_parts())
    target = tmp_path / "scoring.json"
    assert main([str(tmp_path / "bundle"), "--quick", "--sessions", "64", "--json", str(target)]) == 0
    (row,) = json.loads(target.read_text())["results"]
    assert (row["bench"], row["case"], row["baseline"]) == ("scoring", "block", "recommend_batch")
    assert row["params"]["sessions"] == 64
    assert row["ratio"] > 0
    save_random(tmp_path / "bare")
    assert main([str(tmp_path / "bare")]) == 2
    assert "no session memory" in capsys.readouterr().err
