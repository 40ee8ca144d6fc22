"""`mtaw-fast evaluate`: the rows of its table, and equal metrics of every encoder and index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtaw_fast.cli import main


@pytest.mark.parametrize("encoder", ["native", "numpy", "torch"])
@pytest.mark.parametrize("index", ["numpy", "faiss-flat"])
def test_every_encoder_and_index_evaluates_alike(
    work: Path, capsys: pytest.CaptureFixture[str], encoder: str, index: str
) -> None:
    capsys.readouterr()
    arguments = ["evaluate", f"{work}/bundle", f"{work}/dataset", "--json", "--no-baselines"]
    assert main(arguments) == 0
    expected = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--encoder", encoder, "--index", index]) == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["encoder"], got["index"]) == (encoder, index)
    assert got["P@20"] == expected["P@20"]
    assert got["MRR@20"] == pytest.approx(expected["MRR@20"], abs=1e-9)


def test_the_table_names_every_row(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"{work}/bundle", f"{work}/dataset", "--split", "validation"]) == 0
    captured = capsys.readouterr()
    assert "refit on the validation sessions" in captured.err
    rows = [line for line in captured.out.splitlines() if line.startswith("|")]
    names = [row.split("|")[1].strip() for row in rows if row.split("|")[1].strip() not in ("", "---")]
    assert names == 2 * [  # metrics with intervals, then the others
        "model", "popularity", "own items, recent first", "own items, frequent first", "co-occurrence + repeats",
    ]  # fmt: skip
