"""The tables of docs/results.md that no bench prints by itself, and those of findings by hand, from docs/results."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.harness.json_lines import read_json_lines
from bench.harness.records import read_lines
from bench.quality.records import HELD_OUT, NOT_REFIT, PUBLISHED, protocol_of, records_in
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
Record = Mapping[str, Any]


def by_hand_names(results: Path) -> list[str]:
    """Return the names of the findings that were measured by hand."""
    return [name for name, _ in read_lines(results / BY_HAND)]


def by_hand(results: Path, name: str) -> str:
    """Return the table of a finding that was measured by hand, below its machine and date."""
    record = dict(read_lines(results / BY_HAND))[name]
    rows = [[label, *map(_cell, cells)] for label, cells in record["rows"].items()]
    made = [f"`{record['machine']}`", record["date"], *([record["state"]] if "state" in record else [])]
    return f"{', '.join(made)}:\n\n{markdown(['', *record['columns']], rows)}"


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
        one
        for one in read_json_lines(results / "earlier.jsonl")
        if (one["series"], one["split"]) == ("second", "validation") and not {*one["changed"]} - {"leave_out"}
    ]
    whole = {one["dataset"]["name"]: one["metrics"] for one in runs if not one["changed"]}
    for one in runs:
        if one["changed"]:
            base = whole[one["dataset"]["name"]]
            change = [one["metrics"][name] - base[name] for name in _METRICS]
            changes.setdefault(one["changed"]["leave_out"], {})[one["dataset"]["name"]] = change
    return changes


def features(results: Path) -> str:
    """Changes of P@20 / MRR@20 without a feature of the ranker: the largest on RetailRocket, by their sum."""
    changes = feature_changes(results)
    largest = sorted(changes, key=lambda name: sum(changes[name]["retailrocket"]))[:_SHOWN]
    rows = [[f"`{name}`", *(signed(changes[name][one]) for one in _SETS)] for name in largest]
    most = -min(one["tmall"][0] for one in changes.values())
    table = markdown(["without", *(TITLES[one] for one in _SETS)], rows)
    return f"{table}\n\nOf all {len(changes)}, none is worth more than {most:.2f} of P@20 on Tmall."


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
    for one in lines:
        asked = f"{one['asked']:,}{' (all)' if one['asked'] == one['of'] else ''}"
        rows.append([asked, *(f"{one[name]:.2f}" for name in _METRICS), f"{one['fit_cpu_seconds']:.1f} s"])
    return markdown(["samples", "P@20", "MRR@20", "fit"], rows)


def sampled_loss(results: Path) -> str:
    """Error of the sampled loss and cosine of its item gradients, by neighbors of the targets that are always drawn."""
    found = {
        (one["dataset"], one["drawn"], one["neighbours"]): one  # prose: ignore
        for one in read_json_lines(results / "sampled-softmax.jsonl")
    }
    rows = []
    for drawn in _DRAWN:
        cells = [f"{drawn:,}"]
        for dataset in _SETS:
            own = [found[dataset, drawn, neighbors] for neighbors in _NEIGHBORS]
            cells.append(" / ".join(f"{one['loss_error_percent']:.2f}" for one in own) + "%")
            cells.append(" / ".join(f"{one['gradient_cosine']:.3f}" for one in own))
        rows.append(cells)
    head = [f"{TITLES[one]}: {what}" for one in _SETS for what in ("error of the loss", "cosine")]
    return markdown(["`negative_samples`", *head], rows)


def sampled_quality(results: Path) -> str:
    """P@20 / MRR@20 of the preset `paper` on validation with the full softmax and with the sampled one."""
    runs = records_in(results).every()
    rows = []
    for dataset, names in _SOFTMAXES.items():
        found = [[runs[name]["metrics"][metric] for metric in _METRICS] for name in names]
        difference = [sampled - full for full, sampled in zip(*found, strict=True)]
        rows.append([TITLES[dataset], *map(pair, found), signed(difference)])
    return markdown(["", "full softmax", "sampled", "difference"], rows)


def page_bundles(results: Path) -> str:
    """P@20 and MRR@20 of bundles for a page by their bytes, on RetailRocket."""
    lines = [one for one in read_json_lines(results / "page-bundle.jsonl") if one["dataset"] == "retailrocket"]
    shown = [one for one in lines if one["neighbors"] in (None, _PAIRS)]
    most = max(one["sessions"] for one in shown)
    rows = [
        [_form(one, most), *_bytes_and_sessions(one), *_pair(one)]
        for one in sorted(shown, key=lambda one: -one["bytes"])
    ]
    return markdown(["bundle", "MB", "sessions", *_METRICS], rows)


def page_pairs(results: Path) -> str:
    """P@20 of the default bundle for a page by the pairs of an item, on RetailRocket."""
    lines = [one for one in read_json_lines(results / "page-bundle.jsonl") if one["dataset"] == "retailrocket"]
    largest = max(one["bytes"] for one in lines if one["form"] == "page")
    found = {one["neighbors"]: one for one in lines if one["form"] == "page" and one["bytes"] == largest}
    head = ["pairs of an item", *map(str, sorted(found))]
    return markdown(head, [[name, *(f"{found[pairs][name]:.2f}" for pairs in sorted(found))] for name in _METRICS])


def page_bundles_with_times(results: Path) -> str:
    """The same on the news log, whose trends are cut too."""
    lines = [one for one in read_json_lines(results / "page-bundle.jsonl") if one["dataset"] != "retailrocket"]
    whole, *pages = sorted(
        lines, key=lambda one: (one["form"] != "whole", one.get("trend_neighbors"), -one["sessions"])
    )
    rows = [["whole", *_bytes_and_sessions(whole), "all", *_pair(whole)]]
    rows += [
        [_form(one, whole["sessions"]), *_bytes_and_sessions(one), str(one["trend_neighbors"]), *_pair(one)]
        for one in pages
    ]
    return markdown(["bundle", "MB", "sessions", "pairs of an item in trends", *_METRICS], rows)


def _form(one: Record, sessions: int) -> str:
    """Return how a bundle is made. sessions: of the whole one; fewer mean a limit, in halves of a MB."""
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
        found = runs[name]
        best = f"{found['training']['best_epoch']} of {found['config']['epochs']}"
        rows.append([label, best, pair([found["metrics"][metric] for metric in _METRICS])])
    return markdown(["initial weights", "best epoch", "P@20 / MRR@20"], rows)


def learning_limits(results: Path) -> str:
    """P@20 / MRR@20 while learning, without the limits on colluding sessions and with them."""
    found: dict[str, dict[str, str]] = {}
    for one in read_json_lines(results / "learning-limits.jsonl"):
        found.setdefault(one["log"], {})[one["limits"]] = pair([one["learning"][name] for name in _METRICS])
    rows = [[log, *(pairs[kind] for kind in ("none", "default"))] for log, pairs in found.items()]
    return markdown(["P@20 / MRR@20", "no limits", "the default"], rows)


def encoder_gain(results: Path) -> str:
    """What the encoder's candidates add on the test sets to the earlier setting `third`, means over seeds."""
    with_encoder = [
        one for one in read_json_lines(results / "earlier.jsonl") if (one["series"], one["split"]) == ("third", "test")
    ]
    alone = [
        one
        for one in records_in(results).finished()
        if (one["preset"], one["split"], one["changed"]) == ("full", "test", {"dense_candidates": 0})
    ]
    rows = []
    for dataset in _SETS:
        means = [
            [
                statistics.fmean(one["metrics"][name] for one in runs if one["dataset"]["name"] == dataset)
                for name in _METRICS
            ]
            for runs in (alone, with_encoder)
        ]
        gain = [more - less for less, more in zip(*means, strict=True)]
        rows.append([TITLES[dataset], *map(pair, means), signed(gain)])
    return markdown(["P@20 / MRR@20", "memory alone", "`third`", "gain"], rows)


def refit_gain(results: Path) -> str:
    """What learning the validation sessions too adds on the test sets, on the seeds of both protocols."""
    runs = [one for one in records_in(results).finished() if one["split"] == "test"]
    rows = []
    for preset in ("paper-literal", "paper", "full"):
        for dataset in _SETS:
            of: dict[str, dict[tuple[Any, int], Record]] = {HELD_OUT: {}, NOT_REFIT: {}, PUBLISHED: {}}
            for one in runs:
                if (one["preset"], one["dataset"]["name"]) == (preset, dataset):
                    of[protocol_of(one)][json.dumps(one["changed"], sort_keys=True), one["seed"]] = one
            both = of[NOT_REFIT].keys() & of[HELD_OUT].keys()
            if both:
                without, refit = (
                    [statistics.fmean(of[kind][key]["metrics"][name] for key in both) for name in _METRICS]
                    for kind in (NOT_REFIT, HELD_OUT)
                )
                gain = signed([more - less for less, more in zip(without, refit, strict=True)])
                rows.append([preset, TITLES[dataset], str(len(both)), pair(without), pair(refit), gain])
    return markdown(["P@20 / MRR@20", "", "seeds", "not refit", "refit", "gain"], rows)


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
}
