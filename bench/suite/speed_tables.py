"""The tables of docs/performance.md on training, ranking, search, preparing and scaling, from bench/results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.harness.machine import machine_class
from bench.harness.powers import power_of
from bench.harness.report import number
from bench.quality.table import markdown
from bench.suite.cells import NOTHING, against, baselines_of, duration, floor, missed_note, size, table, times
from bench.suite.measured import Found, Measured, grouped
from bench.suite.results import Row
from bench.throughput.command import TIMES_RATIO
from bench.training.command import SMALL_BATCH_TIMES

TARGET = 0.99  # recall@20 of an approximate index
_SCALING = (
    ("training step, 256 samples", "catalog-train-step"),
    ("exact search", "catalog-scan"),
    ("building the exact index", "catalog-index-exact"),
    ("preparing Parquet", "log-prepare"),
    ("memory tables", "log-tables"),
    ("ranking with them", "log-evaluate"),
    ("encoding a session", "session-encode"),
)
_THREADED = (
    ("training step", "threads-train-step"),
    ("scoring", "threads-score"),
    ("preparing a log", "threads-prepare"),
    ("memory tables", "threads-tables"),
)
_PHASES = {
    "prepare": "prepare", "tables": "tables", "trends": "trends", "start": "structured start",
    "encoder": "encoder, 100,000 samples",
}  # fmt: skip
_RANKED = ("tmall", "generated")  # the data whose rankings are shown, if there are any of it
_WHOLE_LOG = 200_000_000  # events
_AXES = {"catalog": "items", "log": "clicks", "clicks": "clicks"}


def loss(measured: Measured) -> str:
    """Time and peak memory of the AW loss by batch and catalog."""
    newest = measured.newest("training", ("aw_loss", "aw_loss-memory"))
    if newest is None:
        return NOTHING
    names, lines = baselines_of(newest.rows), []
    for (case, batch, catalog, gamma), rows in grouped(
        newest.rows, lambda row: (row["case"], *(row["params"][name] for name in ("batch", "catalog", "gamma")))
    ).items():
        ours, memory = rows[0], case.endswith("memory")
        label = f"{batch:,} x {catalog:,}{'' if gamma else ', gamma 0'}{', peak memory' if memory else ''}"
        cells = (
            [f"{number(ours['p50'])} MB", f"{number(ours['floor'])} MB"]
            if memory
            else [duration(ours["p50"], ours["metric"]), floor(ours)]
        )
        lines.append([label, *cells, *against(rows, names)])
    return table(newest, ["batch x catalog", "`native`", "floor", *(f"`{name}`" for name in names)], lines)


def epoch(measured: Measured) -> str:
    """Time of an epoch with its floor, and the share of each stage."""
    newest = measured.newest("training", ("epoch", "stage"))
    if newest is None:
        return NOTHING
    row = newest.of("epoch")[0]
    stages = {stage["params"]["stage"]: stage["p50"] for stage in newest.of("stage")}
    params, part = row["params"], sum(value for name, value in stages.items() if name.startswith("loss"))
    cells = [
        params["data"], f"{params['samples']:,}", f"{params['steps']:,}", str(params["threads"]),
        duration(row["p50"], "s"), floor(row), times(row["p50"] / row["floor"]),
        f"{part / sum(stages.values()):.0%}" if stages else "",
    ]  # fmt: skip
    head = ["data set", "samples", "steps", "threads", "an epoch", "floor", "over the floor", "share of the loss"]
    return table(newest, head, [cells])


def small_batch(measured: Measured) -> str:
    """Processor time of steps in small and large batches, with the limit of what small ones may take."""
    newest = measured.newest("training", ("small-batch-epoch", "batch-step"))
    if newest is None:
        return NOTHING
    relative = newest.of("small-batch-epoch")[0]["p50"]
    steps = sorted(newest.of("batch-step"), key=lambda row: -row["params"]["batch"])
    limit = f"{SMALL_BATCH_TIMES:g}{missed_note(relative <= SMALL_BATCH_TIMES)}"
    lines = [
        [f"{row['params']['batch']:,}", f"{row['params']['steps']:,}", duration(row["p50"], row["metric"]), *cells]
        for row, cells in zip(steps, (("1", ""), (f"{relative:.2f}", limit)), strict=True)
    ]
    return table(newest, ["batch", "steps of an epoch", "a step", "an epoch, relative", "at most"], lines)


def preset(measured: Measured) -> str:
    """Time of whole trainings."""
    files = measured.newest_each("training", "train", ("data", "preset", "threads"))
    if not files:
        return NOTHING
    lines = []
    for file in files:
        figures = {row["metric"]: row["p50"] for row in file.rows}
        params = file.rows[0]["params"]
        lines.append([
            params["data"], f"`{params['preset']}`", str(params["threads"]), duration(figures["train_s"], "s"),
            duration(figures["train_processor_s"], "s"),
        ])  # fmt: skip
    return table(files, ["data set", "preset", "threads", "on the clock", "processor time"], lines)


def ranked(measured: Measured) -> Found | None:
    """Return the rows of rankings of one catalog, of the data that pages show."""
    cases = ("recommend", "encode", "retrieve", "memory", "recommend-rate")
    newest = next(
        (candidate for data in _RANKED if (candidate := measured.newest("throughput", cases, batch=1, data=data))), None
    )
    if newest is None:
        return None
    catalog = newest.of("recommend")[0]["params"]["catalog"]
    return Found(newest.run, [row for row in newest.rows if row["params"]["catalog"] == catalog])


def rank(measured: Measured) -> str:
    """Stages of a ranking, and rankings a second."""
    newest = ranked(measured)
    if newest is None:
        return NOTHING
    params = newest.of("recommend")[0]["params"]
    names = baselines_of(newest.rows)
    lines = []
    for case in ("encode", "retrieve", "memory", "recommend"):
        rows = newest.of(case)
        if rows:
            row = rows[0]
            cells = [number(row[name]) for name in ("p50", "p95", "p99")]
            lines.append([case, *cells, *against(rows, names), "" if row["floor"] is None else number(row["floor"])])
    parts = [table(newest, ["case", "p50 us", "p95", "p99", *(f"`{name}`" for name in names), "floor"], lines)]
    parts.append(
        f"Data: {params['data']}, {params['catalog']:,} items, sessions of {params['clicks']:g} clicks on average."
    )
    rates = [
        f"{rate['workers']} {rate['by'] if rate['workers'] > 1 else 'thread'} {rate['calls'] / row['p50'] * 1e3:,.0f}"
        for row in newest.of("recommend-rate")
        if (rate := row["params"])
    ]
    return "\n\n".join([*parts, *([f"Calls a second: {', '.join(rates)}."] if rates else [])])


def with_times(measured: Measured) -> str:
    """`recommend` of bundles with times over the same bundles without."""
    files = measured.newest_each("throughput", "recommend-times", ("data", "catalog"))
    if not files:
        return NOTHING
    lines = []
    for file in files:
        row = file.rows[0]
        ratio, params = 1 / row["ratio"], row["params"]
        lines.append([
            f"{params['catalog']:,} items, {params['clicks']:g} clicks", number(row["p50"]),
            number(row["p50"] * row["ratio"]), f"{times(ratio)}{missed_note(ratio <= TIMES_RATIO)}",
        ])  # fmt: skip
    return table(files, ["bundle", "p50 us", "without times", "ratio"], lines)


def encode(measured: Measured) -> str:
    """The encoder by length of the session."""
    newest = measured.newest("encoder", ("encode", "append"))
    if newest is None:
        return NOTHING
    names, lines = baselines_of(newest.rows), []
    groups = grouped(newest.rows, lambda row: (row["case"], row["params"]["clicks"]))
    for (case, clicks), rows in sorted(groups.items(), key=lambda entry: (entry[0][0] != "encode", entry[0][1])):
        lines.append([
            case, str(clicks), number(rows[0]["p50"]), *against(rows, names), number(rows[0]["floor"])
        ])  # fmt: skip
    return table(newest, ["case", "clicks", "p50 us", *(f"`{name}`" for name in names), "floor"], lines)


def top_k(measured: Measured) -> str:
    """Exact and approximate search."""
    by = ("catalog", "batch")
    files = [
        newest
        for case in ("exact", "ladder")
        for newest in measured.newest_each("retrieval", case, by, data="clustered")
    ]
    if not files:
        return NOTHING
    files.sort(key=lambda newest: (newest.rows[0]["params"]["batch"], newest.rows[0]["params"]["catalog"]))
    names = list(dict.fromkeys(name for newest in files for name in baselines_of(newest.rows)))
    lines = []
    for file in files:
        row, params = file.rows[0], file.rows[0]["params"]
        kind = "`native`" if row["case"] == "exact" else f"`ann` ({params['kind']})"
        recall = f"{params['recall']:.4f}" if "recall" in params else "1"
        lines.append([
            kind, f"{params['catalog']:,}", str(params["batch"]), recall, duration(row["p50"], row["metric"]),
            floor(row), *against(file.rows, names),
        ])  # fmt: skip
    head = ["index", "items", "queries", "recall@20", "p50", "floor", *(f"`{name}`" for name in names)]
    return table(files, head, lines)


def recall(measured: Measured) -> str:
    """The fastest setting of each index that reaches the recall."""
    newest = measured.newest("retrieval", "recall-curve")
    if newest is None:
        return NOTHING
    best: dict[str, Row] = {}
    for row in newest.rows:
        name = row["params"]["index"]
        if row["params"]["recall"] >= TARGET and (name not in best or row["p50"] < best[name]["p50"]):
            best[name] = row
    lines = [
        [name, number(row["p50"]), f"{row['params']['recall']:.4f}", str(row["params"]["effort"])]
        for name, row in sorted(best.items(), key=lambda entry: entry[1]["p50"])
    ]
    items = newest.rows[0]["params"]["catalog"]
    return table(newest, [f"index of {items:,} items", "p50 us", "recall@20", "effort"], lines)


def prepare(measured: Measured) -> str:
    """Reading a click log."""
    newest = measured.newest("prepare", "clicks")
    if newest is None:
        return NOTHING
    rows, params = {row["metric"]: row for row in newest.rows}, newest.rows[0]["params"]
    cells = [
        f"{params['rows']:,}", f"{params['csv_mb']:,}", duration(rows["prepare_s"]["p50"], "s"),
        f"{rows['rows_per_s']['p50']:,.0f}", f"{rows['peak_mb']['p50']:,.0f} MB",
    ]  # fmt: skip
    return table(newest, ["rows", "MB of CSV", "time", "rows a second", "peak memory"], [cells])


def scaling(measured: Measured) -> str:
    """Processor time by size with the fitted exponent, a table a file."""
    lines: dict[str, tuple[Found, list[list[str]]]] = {}
    for label, case in _SCALING:
        newest = measured.newest("scaling", case, d=lambda d: d in (None, 100))
        if newest is None:
            continue
        rows = [row for row in newest.rows if row["metric"].startswith("processor_")]
        axis = rows[0]["along"]
        rows.sort(key=lambda row: row["params"][axis])
        sizes, costs = [row["params"][axis] for row in rows], [row["p50"] for row in rows]
        power = power_of(sizes, costs, [row["spread"] for row in rows])
        span = f"{size(sizes[0])}..{size(sizes[-1])} {_AXES[axis]}"
        ends = "..".join(duration(cost, rows[0]["metric"]) for cost in (costs[0], costs[-1]))
        exponent = f"{power.exponent:.2f} [{power.low:.2f}, {power.high:.2f}]"
        lines.setdefault(newest.run.path.name, (newest, []))[1].append([label, span, ends, exponent])
    head = ["unit of work", "sizes", "processor time", "exponent"]
    return "\n\n".join(table(file, head, file_lines) for file, file_lines in lines.values()) or NOTHING


def threads(measured: Measured) -> str:
    """How much faster a second thread makes it."""
    files, lines = [], []
    for label, case in _THREADED:
        newest = measured.newest("scaling", case)
        if newest is None:
            continue
        clock = {row["params"]["threads"]: row for row in newest.rows if row["metric"].startswith("latency_")}
        one_thread, two_threads = clock[1], clock[2]
        files.append(newest)
        lines.append(
            [
                label,
                *(duration(row["p50"], row["metric"]) for row in (one_thread, two_threads)),
                times(one_thread["p50"] / two_threads["p50"]),
            ]
        )
    return table(files, ["unit of work", "one thread", "two", "faster"], lines) if files else NOTHING


def large_log(measured: Measured) -> str:
    """Every phase on a log of OTTO's shape, and what the whole log would take of those that grow with it."""
    newest = measured.newest("large_log", tuple(_PHASES))
    if newest is None:
        return NOTHING
    facts = {
        record["case"]: record["facts"]
        for record in newest.run.records
        if record["bench"] == "large_log" and "facts" in record
    }
    lines = []
    for case, label in _PHASES.items():
        figures = {row["metric"]: row["p50"] for row in newest.of(case)}
        times_more = _WHOLE_LOG / newest.of(case)[0]["params"]["events"]
        spent, calculated = duration(figures["processor_s"], "s"), f"{figures['processor_s'] * times_more / 60:.0f} min"
        if case == "start":
            calculated = "not calculated: it reads at most 4 x 10^7 pairs"
        if case == "encoder":
            steps, samples = facts[case]["steps_s"], facts[case]["samples_an_epoch"] * times_more
            spent += f", of which steps {duration(steps, 's')}"
            hours = steps * samples / facts[case]["samples"] / 3600
            calculated = f"steps: {hours:.1f} h an epoch of {samples / 1e8:.2f} x 10^8 samples"
        lines.append([label, spent, f"{figures['peak_mb'] / 1e3:.1f} GB", calculated])
    return table(
        newest, ["phase", "processor time", "peak memory", f"for {size(_WHOLE_LOG)} events, calculated"], lines
    )


def large_catalog(measured: Measured) -> str:
    """Serving two million items."""
    newest = measured.newest("large_log", "serve")
    if newest is None:
        return NOTHING
    figures, params = {row["metric"]: row["p50"] for row in newest.rows}, newest.rows[0]["params"]
    ranking = [number(figures[f"processor_ms_{percentile}"]) for percentile in ("p50", "p90")]
    cells = [
        size(params["items"]), f"`{params['index']}`", *ranking,
        duration(figures["open_processor_s"], "s"), f"{figures['peak_mb'] / 1e3:.1f} GB",
    ]  # fmt: skip
    return table(
        newest, ["items", "index", "a ranking, ms of processor time, p50", "p90", "to open", "peak memory"], [cells]
    )


def machines(measured: Measured) -> str:
    """The machine classes of the records."""
    newest = {machine_class(run.machine): run for run in measured.runs if run.rows}
    lines = []
    for name, run in sorted(newest.items()):
        host: Mapping[str, Any] = run.machine
        caches = host.get("cache_kib", {})
        lines.append([
            f"`{name}`", str(host["cpu"]), str(host["cores"]), f"{host['memory_gib']:.0f} GiB",
            f"{caches.get('L2', 0) / 1024:.0f} MiB", f"{caches.get('L3', 0) / 1024:.0f} MiB", host["packages"]["torch"],
        ])  # fmt: skip
    return markdown(["class", "processor", "cores", "memory", "L2", "L3", "torch"], lines)


BLOCKS: Mapping[str, Callable[[Measured], str]] = {
    "machines": machines,
    "loss": loss,
    "epoch": epoch,
    "small batches": small_batch,
    "whole trainings": preset,
    "rank": rank,
    "with times": with_times,
    "encode": encode,
    "top k": top_k,
    "recall": recall,
    "prepare": prepare,
    "scaling": scaling,
    "threads": threads,
    "large log": large_log,
    "large catalog": large_catalog,
}
