"""The records as Markdown: the systems' figures, and the published ones."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.peers import records
from bench.peers.systems import SYSTEMS
from bench.quality.records import NOT_REFIT, PUBLISHED, protocol_of, records_in
from bench.quality.table import NOT_REFIT_MARK, TITLES, markdown, quoted_figures

_METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
_QUALITY_HEAD = ("", "epochs", *_METRICS, "P@20 repeat", "P@20 new", "published P@20 / MRR@20")
_PRESETS = ("paper-literal", "paper", "full")

Record = Mapping[str, Any]


def render(results: Path) -> str:
    """Return the table of every data set. results: folder of the records of bench.peers and of bench.quality."""
    sets = sorted({record["dataset"]["name"] for record in records.trained(results)}, reverse=True)
    tables = ((name, quality(results, name)) for name in sets)
    return "\n".join(f"### {TITLES.get(name, name)}: quality\n\n{table}\n" for name, table in tables if table)


def quality(results: Path, dataset: str) -> str:
    """Return a row for each system in the order of `SYSTEMS`, then our baseline and presets (means over seeds).

    Empty if no system was ranked.
    """
    by_system = {
        record["system"]: record
        for record in records.trained(results)
        if record["dataset"]["name"] == dataset and "metrics" in record
    }
    if not by_system:
        return ""
    quoted = {name: "{:.2f} / {:.2f}".format(*pair) for name, pair in quoted_figures().get(dataset, {}).items()}
    rows = []
    for system in SYSTEMS:
        record = by_system.get(system.name)
        measured = ("not ranked yet", *[""] * 6) if record is None else (_epochs(record), *_figures([record]))
        rows.append((system.title, *measured, quoted.get(system.title, "")))
    for name in ("co-occurrence + repeats", *_PRESETS):
        published = quoted.get("MTAW", "") if name.startswith("paper") else ""
        rows += [(*row, published) for row in _rows_of_ours(results, dataset, name)]
    size = next(iter(by_system.values()))
    note = (
        f"Test: {size['samples']:,} samples of {size['sessions']:,} sessions, {size['repeat']['samples']:,} of "
        "them with a target that is in the session already. In brackets the 95% bootstrap interval over sessions. "
        "Systems with epochs, and our rows that say so, were trained without the validation sessions and not "
        "refit; the other rows know all training sessions."
    )
    return f"{note}\n\n{markdown(_QUALITY_HEAD, rows)}"


def _rows_of_ours(results: Path, dataset: str, name: str) -> list[tuple[str, ...]]:
    """Return a row for each setting of a preset: its own batches and gamma first, not refit before refit."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records_in(results).finished():
        changed, protocol = record["changed"], protocol_of(record)
        if (record["dataset"]["name"], record["split"], record["preset"]) != (dataset, "test", name):
            continue
        if protocol == PUBLISHED or not changed.keys() <= {"gamma", "batches", "patience"}:
            continue
        settings = [f"{key}={value if key == 'batches' else f'{value:g}'}" for key, value in changed.items()]
        title = " ".join([f"**{name}**", *settings, *([NOT_REFIT_MARK] if protocol == NOT_REFIT else [])])
        order = "batches" in changed, changed.get("gamma", -1.0), protocol != NOT_REFIT
        groups.setdefault((*order, title), []).append(record)
    rows = []
    for (*_, title), group in sorted(groups.items()):
        seeds = f"{len(group)} seeds" if len(group) > 1 else "1 seed" if group[0]["seed"] is not None else ""
        rows.append((title, seeds, *_figures(group)))
    return rows


def _epochs(record: Record) -> str:
    training = record["training"]
    if record["refit"]:
        return ""
    ending = {"patience": ", stopped by its patience", "epochs": ""}.get(training["ended"] or "", ", time ended")
    done = f"{training['epochs_done']:.3g} of {training['epochs_asked']} in {training['cpu_seconds'] / 60:.3g} min"
    return f"{done}{ending}; best {training['best']['epoch']:.3g}"


def _figures(group: Sequence[Record]) -> tuple[str, ...]:
    cells = []
    for metric in _METRICS:
        low, high = (statistics.fmean(record["intervals"][metric][end] for record in group) for end in (0, 1))
        cells.append(f"{statistics.fmean(record['metrics'][metric] for record in group):.2f} [{low:.2f}, {high:.2f}]")
    for part in ("repeat", "non_repeat"):
        values = [record[part]["P@20"] for record in group if record[part]["P@20"] is not None]
        cells.append(f"{statistics.fmean(values):.2f}" if values else "")
    return tuple(cells)
