"""The records as Markdown: the systems' figures, the published ones, and the costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers import records
from bench.peers.systems import SYSTEMS
from bench.quality.records import NOT_REFIT, PUBLISHED, protocol_of, records_in
from bench.quality.table import NOT_REFIT_MARK, TITLES, markdown, quoted_figures

_METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
_QUALITY_HEAD = ("", "epochs", *_METRICS, "P@20 repeat", "P@20 new", "published P@20 / MRR@20")
_COST_HEAD = (
    "", "s an epoch", "over epochs", "s to the best", "its epoch", "parameters", "MB, training", "us, batch 1",
    "us, batch 512",
)  # fmt: skip
_PRESETS = ("paper-literal", "paper", "full")
_ORDER = [*(system.name for system in SYSTEMS), *(f"ours-{name}" for name in _PRESETS)]
_PAPER_RATIOS = {"tmall": 3.0, "retailrocket": 16.6}  # GCE-GNN over MTAW, from the paper's column "Time"

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tables:
    """The records that the tables show.

    found: the systems' records. costs: cost records by machine class. ours: records of bench.quality.
    """

    found: Sequence[Record]
    costs: Mapping[str, Sequence[Record]]
    ours: Sequence[Record]

    @classmethod
    def read(cls, results: Path) -> Tables:
        """Read the records of bench.peers and of bench.quality."""
        return cls(records.trained(results), records.costs(results), records_in(results).finished())

    def render(self) -> str:
        """Return both tables of every data set."""
        all_records = [*self.found, *(record for group in self.costs.values() for record in group)]
        parts = []
        for dataset in sorted({record["dataset"]["name"] for record in all_records}, reverse=True):
            for kind, table in (("quality", self.quality(dataset)), ("cost", self.cost(dataset))):
                if table:
                    parts.append(f"### {TITLES.get(dataset, dataset)}: {kind}\n\n{table}\n")
        return "\n".join(parts)

    def quality(self, dataset: str) -> str:
        """Return a row for each system in the order of `SYSTEMS`, then our baseline and presets (means over seeds).

        Empty if no system was ranked.
        """
        by_system = {
            record["system"]: record
            for record in self.found
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
            rows += [(*row, published) for row in self._rows_of_ours(dataset, name)]
        size = next(iter(by_system.values()))
        note = (
            f"Test: {size['samples']:,} samples of {size['sessions']:,} sessions, {size['repeat']['samples']:,} of "
            "them with a target that is in the session already. In brackets the 95% bootstrap interval over sessions. "
            "Systems with epochs, and our rows that say so, were trained without the validation sessions and not "
            "refit; the other rows know all training sessions."
        )
        return f"{note}\n\n{markdown(_QUALITY_HEAD, rows)}"

    def _rows_of_ours(self, dataset: str, name: str) -> list[tuple[str, ...]]:
        """Return a row for each setting of a preset: its own batches and gamma first, not refit before refit."""
        groups: dict[tuple[Any, ...], list[Record]] = {}
        for record in self.ours:
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

    def cost(self, dataset: str) -> str:
        """Return a table for each machine class, under its name; empty without measurements."""
        parts = []
        for machine, costs in self.costs.items():
            found = [record for record in costs if record["dataset"]["name"] == dataset]
            if found:
                found.sort(key=lambda record: [*_ORDER, record["system"]].index(record["system"]))
                parts.append(f"On `{machine}`:\n\n{_cost_table(found)}")
        return "\n\n".join(parts)


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


def _cost_table(found: Sequence[Record]) -> str:
    """Return a row for each system and preset; below, how many epochs of `paper` one of GCE-GNN takes."""
    lines = [markdown(_COST_HEAD, [(record["title"], *_cost(record)) for record in found])]
    seconds = {record["system"]: second for record in found if (second := _epoch_seconds(record)) is not None}
    for name in ("ours-paper", "ours-paper-literal"):
        if name in seconds and "gce-gnn" in seconds:
            ratio = seconds["gce-gnn"] / seconds[name]
            published = _PAPER_RATIOS.get(found[0]["dataset"]["name"])
            paper = f" (the paper: {published})" if published else ""
            lines.append(f"\nAn epoch of GCE-GNN over one of `{name.removeprefix('ours-')}`: {ratio:.1f}{paper}.")
    return "\n".join(lines)


def _epoch_seconds(record: Record) -> float | None:
    """Return the processor seconds of a training epoch, of a preset with its validation; None before the first."""
    training = record["training"]
    if training.get("epoch_seconds"):
        return statistics.median(training["epoch_seconds"])
    return training["cpu_seconds"] / training["epochs_done"] if training["epochs_done"] else None


def _cost(record: Record) -> tuple[str, ...]:
    training, inference = record["training"], record.get("inference", {})
    seconds, best = _epoch_seconds(record), training["best"]
    parameters, peak = training.get("parameters"), training.get("peak_mb")
    so_far = "" if training["ended"] else " so far"
    return (
        "" if seconds is None else _seconds(seconds),
        epochs(training["epochs_done"]),
        "" if best is None else f"{_seconds(best['cpu_seconds'])}{so_far}",
        "" if best is None else epochs(best["epoch"]),
        "" if parameters is None else f"{parameters / 1e6:.2f}M",
        "" if not peak else f"{peak:,.0f}",
        *(epochs(inference[batch]["us"]) if batch in inference else "" for batch in ("1", "512")),
    )


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def epochs(count: float) -> str:
    """Return a number of epochs, or another figure: whole from 10 on, else two digits."""
    return f"{count:,.0f}" if count >= 10 else f"{count:.2g}"
