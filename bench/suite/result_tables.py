"""The tables of docs/results.md that no bench prints by itself, and those of findings by hand, from docs/results."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.json_lines import read_json_lines
from bench.harness.records import read_lines
from bench.peers.records import trained
from bench.quality.records import HELD_OUT, NOT_REFIT, protocol_of, records_in
from bench.quality.table import TITLES, markdown

BY_HAND = "by-hand.jsonl"
_METRICS = ("P@20", "MRR@20")
_SHOWN = 4  # features with the largest effect
_DRAWN = (1024, 4096)  # samples of the catalog
_NEIGHBORS = (0, 4, 8)
# Records of `paper` on validation, seed 0, with the gamma of the data set: with the full softmax, and the sampled one.
_SOFTMAXES = {
    "tmall": ("tmall-paper-44136fa3-validation-seed0", "tmall-paper-f973e7cf-validation-seed0"),
    "retailrocket": (
        "retailrocket-paper-430a2d11-validation-seed0", "retailrocket-paper-434b60d1-validation-seed0"
    ),
}  # fmt: skip
_STARTS = {
    "uniform, `max_positions=50`, `lr=0.001`, batch 512, `dropout=0.2`": "retailrocket-paper-ea54bff3-validation-seed0",
    "the preset": "retailrocket-paper-430a2d11-validation-seed0",
}
_PAIRS, _TREND_PAIRS, _MEGABYTES = 128, 8, 20  # the defaults of a bundle for a page: pairs of an item, and the limit
_SETS = ("tmall", "retailrocket")
_FINAL_SETS = ("diginetica", "yoochoose1_64")
_FINAL_ROWS = ("full", "paper", "co-occurrence + repeats", "Item-KNN", "own items, frequent first", "popularity")
Record = Mapping[str, Any]


def by_hand_names(results: Path) -> list[str]:
    """Return the names of the findings that were measured by hand."""
    return [name for name, _ in read_lines(results / BY_HAND)]


def by_hand(results: Path, name: str) -> str:
    """Return the table of a finding that was measured by hand, below its machine and date."""
    record = dict(read_lines(results / BY_HAND))[name]
    rows = [[label, *map(_cell, cells)] for label, cells in record["rows"].items()]
    origin = [f"`{record['machine']}`", record["date"], *([record["state"]] if "state" in record else [])]
    return f"{', '.join(origin)}:\n\n{markdown(['', *record['columns']], rows)}"


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def ablations(results: Path) -> str:
    """What each part is worth."""
    from bench.quality.ablations import table_of

    return table_of(read_json_lines(results / "ablations.jsonl"))


def frozen(results: Path) -> str:
    """Bundles that do not learn."""
    from bench.quality.frozen import table_of

    return table_of(read_json_lines(results / "frozen.jsonl"))


def types(results: Path) -> str:
    """What types of clicks are worth."""
    from bench.quality.types import table_of

    return table_of(read_json_lines(results / "types.jsonl"))


def feature_changes(results: Path) -> dict[str, dict[str, list[float]]]:
    """Return, by feature of the ranker and data set, the changes of P@20 and MRR@20 without it: setting `second`."""
    changes: dict[str, dict[str, list[float]]] = {}
    runs = [
        run
        for run in read_json_lines(results / "earlier.jsonl")
        if (run["series"], run["split"]) == ("second", "validation") and not {*run["changed"]} - {"leave_out"}
    ]
    whole_metrics = {run["dataset"]["name"]: run["metrics"] for run in runs if not run["changed"]}
    for record in runs:
        if record["changed"]:
            base = whole_metrics[record["dataset"]["name"]]
            change = [record["metrics"][name] - base[name] for name in _METRICS]
            changes.setdefault(record["changed"]["leave_out"], {})[record["dataset"]["name"]] = change
    return changes


def features(results: Path) -> str:
    """Changes of P@20 / MRR@20 without a feature of the ranker: the largest on RetailRocket, by their sum."""
    changes = feature_changes(results)
    largest = sorted(changes, key=lambda name: sum(changes[name]["retailrocket"]))[:_SHOWN]
    rows = [[f"`{name}`", *(signed(changes[name][dataset]) for dataset in _SETS)] for name in largest]
    largest_loss = -min(change["tmall"][0] for change in changes.values())
    table = markdown(["without", *(TITLES[dataset] for dataset in _SETS)], rows)
    return f"{table}\n\nOf all {len(changes)}, none is worth more than {largest_loss:.2f} of P@20 on Tmall."


def pair(values: Sequence[float]) -> str:
    """Return P@20 and MRR@20, to two digits."""
    return " / ".join(f"{value:.2f}" for value in values)


def signed(values: Sequence[float]) -> str:
    """Return differences with their signs, to two digits; none is a negative zero."""
    return " / ".join(f"{round(value, 2) + 0.0:+.2f}" for value in values)


def ranker_samples(results: Path) -> str:
    """P@20 and MRR@20 by the samples that the ranker trains on."""
    lines = read_json_lines(results / "ranker-lessons.jsonl")
    rows = []
    for line in lines:
        samples = f"{line['asked']:,}{' (all)' if line['asked'] == line['of'] else ''}"
        rows.append([samples, *(f"{line[name]:.2f}" for name in _METRICS), f"{line['fit_cpu_seconds']:.1f} s"])
    return markdown(["samples", "P@20", "MRR@20", "fit"], rows)


def sampled_loss(results: Path) -> str:
    """Error of the sampled loss and cosine of its item gradients, by neighbors of the targets that are always drawn."""
    by_setting = {
        (line["dataset"], line["drawn"], line["neighbours"]): line  # prose: ignore
        for line in read_json_lines(results / "sampled-softmax.jsonl")
    }
    rows = []
    for drawn in _DRAWN:
        cells = [f"{drawn:,}"]
        for dataset in _SETS:
            dataset_lines = [by_setting[dataset, drawn, neighbors] for neighbors in _NEIGHBORS]
            cells.append(" / ".join(f"{line['loss_error_percent']:.2f}" for line in dataset_lines) + "%")
            cells.append(" / ".join(f"{line['gradient_cosine']:.3f}" for line in dataset_lines))
        rows.append(cells)
    head = [f"{TITLES[name]}: {label}" for name in _SETS for label in ("error of the loss", "cosine")]
    return markdown(["`negative_samples`", *head], rows)


def sampled_quality(results: Path) -> str:
    """P@20 / MRR@20 of the preset `paper` on validation with the full softmax and with the sampled one."""
    runs = records_in(results).every()
    rows = []
    for dataset, names in _SOFTMAXES.items():
        values = [[runs[name]["metrics"][metric] for metric in _METRICS] for name in names]
        difference = [sampled - full for full, sampled in zip(*values, strict=True)]
        rows.append([TITLES[dataset], *map(pair, values), signed(difference)])
    return markdown(["", "full softmax", "sampled", "difference"], rows)


def page_bundles(results: Path) -> str:
    """P@20 and MRR@20 of bundles for a page by their bytes, on RetailRocket."""
    lines = [line for line in read_json_lines(results / "page-bundle.jsonl") if line["dataset"] == "retailrocket"]
    shown = [line for line in lines if line["neighbors"] in (None, _PAIRS)]
    n_sessions = max(line["sessions"] for line in shown)
    rows = [
        [_form(line, n_sessions), *_bytes_and_sessions(line), *_pair(line)]
        for line in sorted(shown, key=lambda line: -line["bytes"])
    ]
    return markdown(["bundle", "MB", "sessions", *_METRICS], rows)


def page_pairs(results: Path) -> str:
    """P@20 of the default bundle for a page by the pairs of an item, on RetailRocket."""
    lines = [line for line in read_json_lines(results / "page-bundle.jsonl") if line["dataset"] == "retailrocket"]
    largest = max(line["bytes"] for line in lines if line["form"] == "page")
    by_pairs = {line["neighbors"]: line for line in lines if line["form"] == "page" and line["bytes"] == largest}
    head = ["pairs of an item", *map(str, sorted(by_pairs))]
    return markdown(
        head, [[name, *(f"{by_pairs[pairs][name]:.2f}" for pairs in sorted(by_pairs))] for name in _METRICS]
    )


def page_bundles_with_times(results: Path) -> str:
    """The same on the news log, whose trends are cut too."""
    lines = [line for line in read_json_lines(results / "page-bundle.jsonl") if line["dataset"] != "retailrocket"]
    whole, *pages = sorted(
        lines, key=lambda line: (line["form"] != "whole", line.get("trend_neighbors"), -line["sessions"])
    )
    rows = [["whole", *_bytes_and_sessions(whole), "all", *_pair(whole)]]
    rows += [
        [_form(line, whole["sessions"]), *_bytes_and_sessions(line), str(line["trend_neighbors"]), *_pair(line)]
        for line in pages
    ]
    return markdown(["bundle", "MB", "sessions", "pairs of an item in trends", *_METRICS], rows)


def _form(one: Record, sessions: int) -> str:
    """Return how a bundle is made, in words.

    sessions: how many the whole bundle has. A bundle with fewer was made with a limit, given in halves of a MB.
    """
    if one["form"] == "whole":
        return "whole"
    limit = math.ceil(2 * one["bytes"] / 1e6) / 2
    cut = f" --megabytes {limit:g}" if one["sessions"] < sessions and limit != _MEGABYTES else ""
    trends = one.get("trend_neighbors", _TREND_PAIRS)
    return f"`--page{cut}{'' if trends == _TREND_PAIRS else f' --trend-neighbors {trends}'}`"


def _bytes_and_sessions(one: Record) -> tuple[str, str]:
    return f"{one['bytes'] / 1e6:.1f}", f"{one['sessions']:,}"


def _pair(one: Record) -> list[str]:
    return [f"{one[name]:.2f}" for name in _METRICS]


def initial_weights(results: Path) -> str:
    """P@20 / MRR@20 of the preset `paper` on RetailRocket's validation, with its start and with uniform weights."""
    rows = []
    runs = records_in(results).every()
    for label, name in _STARTS.items():
        run = runs[name]
        best = f"{run['training']['best_epoch']} of {run['config']['epochs']}"
        rows.append([label, best, pair([run["metrics"][metric] for metric in _METRICS])])
    return markdown(["initial weights", "best epoch", "P@20 / MRR@20"], rows)


def learning_limits(results: Path) -> str:
    """P@20 / MRR@20 while learning, without the limits on colluding sessions and with them."""
    by_log: dict[str, dict[str, str]] = {}
    for line in read_json_lines(results / "learning-limits.jsonl"):
        by_log.setdefault(line["log"], {})[line["limits"]] = pair([line["learning"][name] for name in _METRICS])
    rows = [[log, *(pairs[kind] for kind in ("none", "default"))] for log, pairs in by_log.items()]
    return markdown(["P@20 / MRR@20", "no limits", "the default"], rows)


def encoder_gain(results: Path) -> str:
    """What the encoder adds to `full` on the test sets, on the seeds of both."""
    rows = []
    for dataset in _SETS:
        runs = _finals(results, "full", dataset, HELD_OUT)
        alone = {seed: run for (changed, seed), run in runs.items() if changed == '{"dense_candidates": 0}'}
        whole = {seed: run for (changed, seed), run in runs.items() if changed == "{}"}
        rows.append([TITLES[dataset], *_gain(alone, whole)])
    return markdown(["P@20 / MRR@20", "seeds", "memory alone", "`full`", "gain"], rows)


def refit_gain(results: Path) -> str:
    """What learning the validation sessions too adds on the test sets, on the seeds of both protocols."""
    rows = []
    for preset in ("paper-literal", "paper", "full"):
        for dataset in _SETS:
            without, refit = (_finals(results, preset, dataset, protocol) for protocol in (NOT_REFIT, HELD_OUT))
            for changed in sorted({changed for changed, _ in without.keys() & refit.keys()}):
                texts = (f"{value:g}" if isinstance(value, float) else value for value in json.loads(changed).values())
                settings = (f"{name}={text}" for name, text in zip(json.loads(changed), texts, strict=True))
                sides = ({key: run for key, run in runs.items() if key[0] == changed} for runs in (without, refit))
                rows.append([" ".join([f"`{preset}`", *settings]), TITLES[dataset], *_gain(*sides)])
    return markdown(["P@20 / MRR@20", "", "seeds", "not refit", "refit", "gain"], rows)


def final_sets(results: Path) -> str:
    """P@20 / MRR@20 on the sets on which nothing was chosen."""
    runs = [
        run
        for run in records_in(results).finished()
        if run["split"] == "test" and not run["changed"] and protocol_of(run) == HELD_OUT
    ]
    runs += [{**peer, "preset": peer["title"]} for peer in trained(results) if "metrics" in peer]
    rows = []
    for title in _FINAL_ROWS:
        cells = [_seeds(run for run in runs if (run["preset"], run["dataset"]["name"]) == (title, name))
                 for name in _FINAL_SETS]  # fmt: skip
        if any(cells):
            rows.append([f"`{title}`" if title in ("full", "paper") else title, *cells])
    return markdown(["P@20 / MRR@20", *(TITLES[name] for name in _FINAL_SETS)], rows)


def _seeds(found: Iterable[Record]) -> str:
    """Return the mean of runs that differ in the seed alone, its deviation and the mean interval, for both metrics."""
    runs, parts = list(found), []
    for name in _METRICS if runs else ():
        values = [run["metrics"][name] for run in runs]
        low, high = (statistics.fmean(run["intervals"][name][end] for run in runs) for end in (0, 1))
        spread = f" ± {statistics.stdev(values):.2f}" if len(runs) > 1 else ""
        parts.append(f"{statistics.fmean(values):.2f}{spread} [{low:.2f}, {high:.2f}]")
    return " / ".join(parts)


def _finals(results: Path, preset: str, dataset: str, protocol: str) -> dict[tuple[str, int], Record]:
    """Return the runs of a preset on a test set by their changed settings and seed."""
    return {
        (json.dumps(run["changed"], sort_keys=True), run["seed"]): run
        for run in records_in(results).finished()
        if (run["preset"], run["dataset"]["name"], run["split"]) == (preset, dataset, "test")
        and protocol_of(run) == protocol
    }


def _gain(before: Mapping[Any, Record], after: Mapping[Any, Record]) -> list[str]:
    """Return the number of common runs, the means of both over them, and the gain with its deviation over seeds."""
    common = sorted(before.keys() & after.keys())
    values = [[[runs[key]["metrics"][name] for key in common] for name in _METRICS] for runs in (before, after)]
    means = [[statistics.fmean(metric) for metric in run] for run in values]
    gains = []
    for less, more in zip(*values, strict=True):
        differences = [new - old for old, new in zip(less, more, strict=True)]
        spread = f" ± {statistics.stdev(differences):.2f}" if len(common) > 1 else ""
        gains.append(f"{signed([statistics.fmean(differences)])}{spread}")
    return [str(len(common)), *map(pair, means), " / ".join(gains)]


BLOCKS: Mapping[str, Callable[[Path], str]] = {
    "ablations": ablations,
    "frozen": frozen,
    "types": types,
    "features": features,
    "ranker samples": ranker_samples,
    "sampled loss": sampled_loss,
    "sampled quality": sampled_quality,
    "initial weights": initial_weights,
    "learning limits": learning_limits,
    "page bundles": page_bundles,
    "page pairs": page_pairs,
    "page bundles with times": page_bundles_with_times,
    "encoder gain": encoder_gain,
    "refit gain": refit_gain,
    "final sets": final_sets,
}
