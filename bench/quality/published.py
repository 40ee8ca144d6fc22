"""What others published: quoted from docs/results/published.jsonl, which names paper, table and protocol."""

from __future__ import annotations

from pathlib import Path

from bench.harness.json_lines import read_json_lines

QUOTED = Path(__file__).parents[2] / "docs/results/published.jsonl"


def quoted_figures(path: Path = QUOTED) -> dict[str, dict[str, tuple[float, float]]]:
    """Return P@20 and MRR@20 as published, by data set and model."""
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    for quoted in read_json_lines(path):
        for dataset, (precision, mrr) in quoted["figures"].items():
            figures.setdefault(dataset, {})[quoted["model"]] = (precision, mrr)
    return figures
