"""The result of an evaluation: the bundle's report next to those of the baselines, with warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mtaw_fast.evaluation.measuring import MORE
from mtaw_fast.evaluation.metrics import METRICS
from mtaw_fast.evaluation.metrics_report import Report
from mtaw_fast.evaluation.slices import SINCE
from mtaw_fast.system.frames import Library


@dataclass(frozen=True, slots=True)
class Validation:
    """What the training of a bundle measured. precision: P@20. hours: from the last click that it knew to the last one
    that it predicted. hours_here: the same of the evaluation."""

    precision: float
    hours: float
    hours_here: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `mtaw_fast.evaluate`; `str()` of it is a table.

    Attributes
    ----------
    report : Report
        Of the bundle.
    served_late : mapping of str to Report
        Of the bundle that is served so much later and learns nothing, by 'served a day later' and so on; empty for a
        bundle or samples without times.
    baselines : mapping of str to Report
        By name; empty if not requested.
    name : str
        Name of the data set.
    split : {'test', 'validation'}
        Which samples of it.
    encoder, index : str
        The backends that ranked.
    seen_in_training : bool
        Whether the bundle's weights have seen the validation sessions of this evaluation.
    same_training_part : bool or None
        Whether the bundle was trained on this data set's training part; None if unknown.
    unseen_share : float or None
        Share of the test clicks on items that training never saw; None if unknown.
    unseen_targets : int
        Number of these clicks that would be targets.
    weights : mapping of str to float
        Weights of the samples in the weighted metrics, by the type of their target; empty without.
    warnings : list of str
        What makes the metrics misleading, a line each.
    diversity_by : list of str
        The item attributes that the diversity goes by; empty for the bundle's item vectors.
    validation : Validation or None
        What the training measured, for the test split with times.
    """

    report: Report
    baselines: Mapping[str, Report]
    name: str
    split: str
    encoder: str
    index: str
    seen_in_training: bool
    same_training_part: bool | None
    unseen_share: float | None = None
    unseen_targets: int = 0
    warnings: list[str] = field(default_factory=list)
    weights: Mapping[str, float] = field(default_factory=dict)
    diversity_by: list[str] = field(default_factory=list)
    validation: Validation | None = None
    served_late: Mapping[str, Report] = field(default_factory=dict)

    def to_frame(self, library: Library = "polars") -> Any:
        """Return the bundle's metrics by slice as a table; see `Report.to_frame`."""
        return self.report.to_frame(library)

    @property
    def metrics(self) -> Mapping[str, float]:
        """The bundle's metrics in percent: 'P@10', 'MRR@10', 'P@20', 'MRR@20'."""
        return self.report.metrics

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, the bundle's metrics at the top level."""
        return {
            **self.report.as_dict(),
            "split": self.split,
            "seen_in_training": self.seen_in_training,
            "same_training_part": self.same_training_part,
            "unseen_share": self.unseen_share,
            "unseen_targets": self.unseen_targets,
            "encoder": self.encoder,
            "index": self.index,
            "served_late": {name: report.as_dict() for name, report in self.served_late.items()},
            "baselines": {name: report.as_dict() for name, report in self.baselines.items()},
            "warnings": list(self.warnings),
            "diversity_by": list(self.diversity_by),
            "validation": None if self.validation is None else asdict(self.validation),
            **({"weights": dict(self.weights)} if self.report.weighted else {}),
        }

    def __str__(self) -> str:
        reports = {"model": self.report, **self.baselines}
        rows = {"model": self.report, **self.served_late, **self.baselines}
        lines = [f"{self.name}, {self.split}: encoder {self.encoder}, index {self.index}", table(rows)]
        if self.report.more:
            cells = [[name, *(f"{report.more[metric]:.2f}" for metric in MORE)] for name, report in reports.items()]
            lines.append(_drawn([["", *MORE], *cells]))
        if len(self.report.by_type) > 1:
            for kind, metrics in self.report.by_type.items():
                lines.append(_metrics_text(f"targets of type {kind}", metrics))
                first_metrics = self.report.first_by_type.get(kind)
                if first_metrics is not None:
                    lines.append(_metrics_text("of these are new to the session", first_metrics))
        if self.report.weighted:
            weights = ", ".join(f"{name}={weight:g}" for name, weight in self.weights.items())
            cells = [
                [name, *_with_intervals(report.weighted, report.weighted_intervals)] for name, report in reports.items()
            ]
            lines += [f"targets weighted by type ({weights})", _drawn([["", *METRICS], *cells])]
        if self.unseen_share is not None:
            counted = ", not counted; --unseen misses counts them as misses" if self.unseen_targets else ""
            if self.report.unseen:
                counted = ", counted as misses, but not in recall"
            lines.append(
                f"{self.unseen_share:.1%} of the test clicks are on items that training never saw: "
                f"{self.unseen_targets:,} targets{counted}"
            )
        if self.validation is not None:
            lines.append(self._against(self.validation))
        return "\n".join(lines)

    def _against(self, validation: Validation) -> str:
        """Say how much later than those of the validation the clicks are."""
        by_delay = ", ".join(
            f"{metrics['P@20']:.2f} {delay} ({metrics['samples']:,})"
            for delay, metrics in self.report.slices.get(SINCE, {}).items()
        )
        there, here = _duration(validation.hours), _duration(validation.hours_here)
        line = f"validation: P@20 {validation.precision:.2f} on clicks up to {there} after training; here up to {here}"
        return f"{line}: {by_delay}" if by_delay else line


def _duration(hours: float) -> str:
    if hours < 2:
        return f"{60 * hours:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"


def table(reports: Mapping[str, Report]) -> str:
    """Return a Markdown table with a row for each ranker: metrics with 95% intervals, then P@20 by repeat."""
    model = next(iter(reports.values()))
    head = ["", *METRICS, f"P@20 repeat ({model.repeat_samples:,})",
            f"P@20 non-repeat ({model.samples - model.repeat_samples:,})"]  # fmt: skip
    rows = [head]
    for name, report in reports.items():
        cells = _with_intervals(report.metrics, report.intervals)
        rows.append([name, *cells, f"{report.repeat['P@20']:.2f}", f"{report.non_repeat['P@20']:.2f}"])
    return _drawn(rows)


def _metrics_text(label: str, metrics: Mapping[str, float]) -> str:
    values = ", ".join(f"{metric} {metrics[metric]:.2f}" for metric in METRICS) if metrics["samples"] else "none"
    return f"{int(metrics['samples']):,} {label}: {values}"


def _with_intervals(metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> list[str]:
    return [f"{metrics[name]:.2f} [{intervals[name][0]:.2f}, {intervals[name][1]:.2f}]" for name in METRICS]


def _drawn(rows: list[list[str]]) -> str:
    """Format rows as a Markdown table; the first one is its head."""
    head = rows[0]
    rows = [head, ["---"] * len(head), *rows[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )
