"""The records of bench.quality as Markdown: finals and published rows on the test sets, screens on validation.

Rows of the published protocol, whose epochs the test set chose, carry LEAK_MARK in every table.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.harness.register import read_json_lines
from bench.quality.records import NOT_REFIT, PUBLISHED, protocol_of

QUOTED = Path(__file__).parents[2] / "docs/results/published.jsonl"  # names paper, table and protocol
_METRICS = ("P@10", "MRR@10", "P@20", "MRR@20")
_KINDS = ("all", "repeat", "new")
_FINAL_HEAD = ("", "seeds", *_METRICS, "P@20 repeat", "P@20 new", "P@20 new, own left out", "training")
_SCREEN_HEAD = ("settings", "P@20", "MRR@20", "P@20 repeat", "P@20 new", "P@20 new, own left out", "training")
TITLES = {
    "tmall": "Tmall", "retailrocket": "RetailRocket", "diginetica": "Diginetica", "yoochoose1_64": "Yoochoose 1/64"
}  # fmt: skip

LEAK_MARK = "(LEAK: best test epoch)"
NOT_REFIT_MARK = "(not refit)"
_LEAK_NOTE = (
    "the test set was read after every epoch, and each metric is that of its own best epoch, as some published code "
    "does; repeat and new are those of the best P@20. Not to be compared with rows whose epoch validation chose."
)

Record = dict[str, Any]


def render(records: Sequence[Record]) -> str:
    """Return every table, as one Markdown text."""
    parts = []
    for dataset in sorted({record["dataset"]["name"] for record in records}, reverse=True):
        dataset_records = [record for record in records if record["dataset"]["name"] == dataset]
        parts.append(f"### {TITLES.get(dataset, dataset)}\n")
        test, validation = (
            [record for record in dataset_records if record["split"] == split] for split in ("test", "validation")
        )
        if test:
            parts.append(finals(dataset, test))
        if validation:
            parts.append(screens(validation))
    return "\n".join(parts)


def quoted_figures() -> dict[str, dict[str, tuple[float, float]]]:
    """Return P@20 and MRR@20 as published, by data set and model."""
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    for quoted in read_json_lines(QUOTED):
        for dataset, (precision, mrr) in quoted["figures"].items():
            figures.setdefault(dataset, {})[quoted["model"]] = (precision, mrr)
    return figures


def finals(dataset: str, records: Sequence[Record]) -> str:
    """Return the test figures: for each finalist the mean over its seeds, standard deviation and mean interval."""
    rows = [_final_row(name, group) for name, group in _grouped(records)]
    rows += [
        (f"{name}, as published", "", "", "", f"{p:.2f}", f"{mrr:.2f}", "", "", "", "")
        for name, (p, mrr) in quoted_figures().get(dataset, {}).items()
    ]
    size = records[0]
    note = (
        f"Test: {size['samples']:,} samples of {size['sessions']:,} sessions, {size['repeat']['samples']:,} of them "
        "with a target that is in the session already. Mean over seeds ± standard deviation; in brackets the 95% "
        "bootstrap interval over sessions, its bounds averaged over seeds.\n"
    )
    leaks = [f"\n{LEAK_MARK}: {_LEAK_NOTE}"] if any(protocol_of(record) == PUBLISHED for record in records) else []
    return "\n".join([note, markdown(_FINAL_HEAD, rows), *leaks, ""])


def _final_row(name: str, group: Sequence[Record]) -> tuple[str, ...]:
    cells = []
    for metric in _METRICS:
        spread = _mean_and_spread([record["metrics"][metric] for record in group])
        low, high = (statistics.fmean(record["intervals"][metric][end] for record in group) for end in (0, 1))
        cells.append(f"{spread} [{low:.2f}, {high:.2f}]")
    return (name, str(len(group)), *cells, *_parts(group))


def screens(records: Sequence[Record]) -> str:
    """Return the validation figures: a row for each setting, with its difference to the preset on common seeds."""
    rows = []
    groups = dict(_grouped(records))
    for name, group in groups.items():
        base = groups.get(group[0]["preset"]) if group[0]["changed"] else None
        cells = [_against(group, base or (), metric) for metric in ("P@20", "MRR@20")]
        rows.append((name, *cells, *_parts(group)))
    size = records[0]
    note = f"Validation: {size['samples']:,} samples of the last {size['sessions']:,} training sessions.\n"
    return "\n".join([note, markdown(_SCREEN_HEAD, rows), ""])


def _grouped(records: Iterable[Record]) -> list[tuple[str, list[Record]]]:
    """Group records of equal settings: baselines first, then presets, each before its variations."""
    groups: dict[tuple[bool, str, str, str], list[Record]] = {}
    for record in records:
        changes = " ".join(f"{name}={value}" for name, value in record["changed"].items())
        mark = {PUBLISHED: LEAK_MARK, NOT_REFIT: NOT_REFIT_MARK}.get(protocol_of(record), "")
        groups.setdefault((record["seed"] is not None, record["preset"], changes, mark), []).append(record)
    return [(" ".join(filter(None, names)), group) for (_, *names), group in sorted(groups.items())]


def _parts(group: Sequence[Record]) -> tuple[str, ...]:
    """Return repeat, new, new without own items, and the time of a training."""
    cells = [
        _mean_and_spread([record[part]["P@20"] for record in group if record.get(part, {}).get("P@20") is not None])
        for part in ("repeat", "non_repeat", "exclude_seen")
    ]
    seconds = [record["training"]["seconds"] for record in group if "training" in record]
    return (*cells, f"{statistics.median(seconds) / 60:.1f} min" if seconds else "")


def _mean_and_spread(values: Sequence[float]) -> str:
    """Return the mean, with the standard deviation of several values; empty without any."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def _against(group: Sequence[Record], base_group: Sequence[Record], metric: str) -> str:
    """Return the mean of a metric, with its difference to the base on common seeds."""
    values, base = ({record["seed"]: record["metrics"][metric] for record in part} for part in (group, base_group))
    text = _mean_and_spread([*values.values()])
    common = values.keys() & base.keys()
    return f"{text} ({statistics.fmean(values[seed] - base[seed] for seed in common):+.2f})" if common else text


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with columns padded to equal width."""
    lines = [tuple(head), ("---",) * len(head), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def ablations(lines: Sequence[Record]) -> str:
    """Return the lines of `bench.quality.ablations`: the whole models, and the differences of their parts from them."""
    sets = list(dict.fromkeys(line["dataset"] for line in lines))
    cells = {(line["dataset"], line["variant"]): _ablation(line) for line in lines}
    rows = [
        (name if is_part else f"**{name}**", *(cells.get((dataset, name), "") for dataset in sets))
        for name, is_part in {line["variant"]: "difference" in line for line in lines}.items()
    ]
    return markdown(["", *(f"{TITLES.get(dataset, dataset)}, P@20 / MRR@20" for dataset in sets)], rows)


def readings(lines: Sequence[Record]) -> str:
    """Return the lines of `bench.quality.readings`: P@20 / MRR@20 after each epoch, means over the seeds."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for line in lines:
        groups.setdefault((line["dataset"], line["reading"]), []).append(line)
    last = max((len(line["epochs"]) for line in lines), default=0)
    rows = [
        (TITLES.get(dataset, dataset), reading, ", ".join(str(line["seed"]) for line in group),
         *(_epoch(group, number) for number in range(last)))
        for (dataset, reading), group in sorted(groups.items(), key=lambda item: item[0][0], reverse=True)
    ]  # fmt: skip
    return markdown(["", "", "seeds", *(f"epoch {number + 1}" for number in range(last))], rows)


def _epoch(group: Sequence[Record], number: int) -> str:
    """Return the means after an epoch that all seeds have; empty if one has not."""
    if any(number >= len(line["epochs"]) for line in group):
        return ""
    return " / ".join(
        f"{statistics.fmean(line['epochs'][number][name] for line in group):.2f}" for name in ("P@20", "MRR@20")
    )


def _ablation(line: Record) -> str:
    cells, several = [], line["seeds"] > 1
    for name in ("P@20", "MRR@20"):
        if "difference" in line:
            mean, low, high = line["difference"][name]
            spread = f" ± {line['difference_deviation'][name]:.2f}" if several else ""
            cells.append(f"{mean:+.2f}{spread} [{low:+.2f}, {high:+.2f}]")
        else:
            cells.append(f"{line[name]:.2f}" + (f" ± {line['deviation'][name]:.2f}" if several else ""))
    return " / ".join(cells)


def ceiling(lines: Sequence[Record]) -> str:
    """Return the lines of `bench.quality.ceiling`: the bounds by context, then what the models find together."""
    bounds = {(line["dataset"], line["context"], line["kind"]): line for line in lines if "context" in line}
    rows = [
        (TITLES.get(dataset, dataset), context, *(_bound(bounds.get((dataset, context, kind))) for kind in _KINDS))
        for dataset, context in dict.fromkeys(key[:2] for key in bounds)
    ]
    head = ["", "context, clicks", *(f"{kind}: samples, alike, MRR@20 at most / `full`" for kind in _KINDS)]
    found = {(line["dataset"], line["kind"]): line for line in lines if "context" not in line}
    names = dict.fromkeys(name for line in found.values() for name in (*line["P@20"], "any over full"))
    found_rows = [
        (TITLES.get(dataset, dataset), name, *(_found(found.get((dataset, kind)), name) for kind in _KINDS))
        for dataset in dict.fromkeys(dataset for dataset, _ in found)
        for name in names
    ]
    return f"{markdown(head, rows)}\n\n{markdown(['P@20', '', *_KINDS], found_rows)}"


def new_items(lines: Sequence[Record]) -> str:
    """Return the lines of `bench.quality.new_items`: what each way gives new targets, and what it costs the others."""
    rows = [
        (
            line["log"], way, f"{row['new items a list']:.2f}",
            *(_pair(row, name) for name in ("new", "others", "all")),
            " / ".join(map(_with_bounds, (row["others, P@20 change"], row["others, MRR@20 change"]))),
            "{:,.0f} / {:,.0f}".format(*row["rank near"]) if "rank near" in row else "",
        )
        for line in lines
        for way, row in line["ways"].items()
    ]  # fmt: skip
    head = (
        "", "", "new items in a list", "P@20 / MRR@20, new", "others", "all", "others, difference",
        "rank near: median / 90%",
    )  # fmt: skip
    return markdown(head, rows)


def _pair(row: Record, name: str) -> str:
    return f"{row[f'{name} P@20']:.2f} / {row[f'{name} MRR@20']:.2f}"


def _found(line: Record | None, name: str) -> str:
    if line is None:
        return ""
    if name in line["P@20"]:
        return f"{line['P@20'][name]:.2f}"
    return _with_bounds(line[name])


def _with_bounds(values: Sequence[float]) -> str:
    return "{:+.2f} [{:+.2f}, {:+.2f}]".format(*values)


def _bound(line: Record | None) -> str:
    if line is None:
        return ""
    alike, (mean, low, high) = 100 * line["alike"][0], line["MRR@20 at most"]
    return f"{line['covered']:,}, {alike:.1f}%, {mean:.1f} [{low:.1f}, {high:.1f}] / {line['full'][1]:.1f}"
