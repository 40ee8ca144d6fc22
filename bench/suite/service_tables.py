"""The tables of docs/performance.md on the service and on learning while serving, from bench/results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bench.harness.report import number
from bench.live.command import ADDED_US, COMPACTION_MIB, EVENT_BYTES, EVENT_US, FRESH_S, RATE_RATIO
from bench.serving.command import CURVE_FROM, RATES, REQUEST_US
from bench.suite.cells import NOTHING, duration, missed_note, size, table
from bench.suite.measured import Found, Measured, grouped


def load(measured: Measured) -> str:
    """Latency of the service under an open-loop load."""
    files = [
        newest
        for items, rate in RATES.items()
        for newest in measured.newest_each("serving", "poisson", ("index",), catalog=items, rate=rate)
    ]
    if not files:
        return NOTHING
    lines = []
    for file in files:
        row, params = file.rows[0], file.rows[0]["params"]
        index = f"`{params['index']}`" + (f" (recall@20 {row['recall']:.3f})" if params["index"] == "ann" else "")
        figures = [number(row[name]) for name in ("p50", "p90", "p99", "server_cpu_us")]
        lines.append([f"{params['catalog']:,}", index, f"{params['rate']:,.0f}", *figures, str(row["errors"])])
    head = ["items", "index", "requests/s", "p50 ms", "p90", "p99", "service CPU us", "failed"]
    return table(files, head, lines)


def curve(measured: Measured) -> str:
    """90th percentile of the latency by rate, of `--curve`: up to the first rate that is too much."""
    newest = measured.newest("serving", "poisson", rate=CURVE_FROM)
    if newest is None:
        return NOTHING
    rows = [row for row in newest.run.rows if (row["bench"], row["case"]) == ("serving", "poisson")]
    served = grouped(rows, lambda row: (row["params"]["catalog"], row["params"]["index"]))
    p90 = {(name, row["params"]["rate"]): number(row["p90"]) for name, group in served.items() for row in group}
    rates = sorted({rate for _, rate in p90})
    lines = [[f"{rate:,.0f}", *(p90.get((name, rate), "") for name in served)] for rate in rates]
    head = ["requests/s", *(f"{items:,} items, `{index}`" for items, index in served)]
    return table([newest], head, lines)


def request_cost(measured: Measured) -> str:
    """Processor time of a request: without sockets by part, and with them next to its target."""
    alone = measured.newest("serving.cost", ("service", "recommend", "bare"))
    loaded = [measured.newest("serving", case, catalog=10_000, rate=400.0) for case in ("poisson", "bare")]
    lines = []
    if alone is not None:
        costs = {name: alone.of(name)[0]["p50"] for name in ("service", "recommend", "bare")}
        remaining = costs["service"] - costs["recommend"] - costs["bare"]
        lines += [
            ["a request of the service, without sockets", number(costs["service"]), ""],
            ["of it `recommend`", number(costs["recommend"]), ""],
            ["a bare ASGI app", number(costs["bare"]), ""],
            ["left for the service's own code", number(remaining), ""],
        ]
    for name, limit, newest in zip(("the service", "a bare app"), (REQUEST_US, None), loaded, strict=True):
        if newest is not None:
            row = newest.rows[0]
            value, workers = row["server_cpu_us"], row["params"]["workers"]
            target = "" if limit is None else f"{limit:g} us{missed_note(value <= limit)}"
            lines.append([f"{name}, {workers} workers, 400 requests/s", number(value), target])
    files = [file for file in (alone, *loaded) if file is not None]
    return table(files, ["", "us of processor time", "target"], lines) if files else NOTHING


def learning(measured: Measured) -> str:
    """What learning costs and loses, with the targets."""
    entries = list(_learning(measured))
    lines = [line for _, line in entries]
    return table([file for file, _ in entries], ["case", "figure", "target"], lines) if entries else NOTHING


def _learning(measured: Measured) -> Iterator[tuple[Found, list[str]]]:
    """Yield each line with its file."""
    tables = ("base_clicks", "times")
    for file in measured.newest_each("live", "recommend-added", tables):
        row, params = file.rows[0], file.rows[0]["params"]
        without = row["p50"] * row["ratio"]
        name = f"`recommend-added`: {size(params['events'])} events, {_past(params)}"
        target = f"{ADDED_US:+g} us{missed_note(row['p50'] - without <= ADDED_US)}"
        yield file, [name, f"{row['p50'] - without:+.1f} us on {number(without)}", target]
    for file in measured.newest_each("live", "places-as-in-a-rebuild", tables):
        row = file.rows[0]
        name = f"top-{row['k']} ranks as after a rebuild, {_past(row['params'])}"
        yield file, [name, f"{row['p50']:.2f}%", f"{row['target']:g}%{missed_note(row['p50'] >= row['target'])}"]
    for file in measured.newest_each("live", "event", (), stage="total"):
        value = file.rows[0]["p50"]
        target = f"{EVENT_US:g} us{missed_note(value <= EVENT_US)}"
        yield file, ["`event`: processor time", f"{number(value)} us", target]
    for file in measured.newest_each("live", "rate", ()):
        row, params = file.rows[0], file.rows[0]["params"]
        ratio, name = row["p90_ratio"], f"`rate`: p90 at {params['event_rate']:,.0f} events/s over none"
        yield file, [name, f"{ratio:.2f}", f"{RATE_RATIO:g}{missed_note(ratio <= RATE_RATIO)}"]
    for file in measured.newest_each("live", "fresh", (), event_rate=None):
        longest = file.rows[0]["max"]
        target = f"{FRESH_S:g} s{missed_note(longest <= 1e3 * FRESH_S)}"
        yield file, ["`fresh`: until another worker knows a click", f"at most {number(longest)} ms", target]
    for file in measured.newest_each("live", "loss", ()):
        row, params = file.rows[0], file.rows[0]["params"]
        name = f"`loss`: {params['kills']} kills, {params['acknowledged']:,} events"
        yield file, [name, f"{row['lost']} lost, {row['doubled']} twice", "0, 0"]


def _past(params: Mapping[str, Any]) -> str:
    times = "" if params["times"] else ", no times"
    return f"tables of {size(params['base_clicks'])} clicks{times}"


def memory_use(measured: Measured) -> str:
    """Memory of learning."""
    newest = measured.newest("live", ("worker-memory", "compaction-memory", "redact"))
    if newest is None:
        return NOTHING
    lines = []
    for row in newest.of("worker-memory"):
        span = "of a day" if row["step_ms"] > 1 else "of minutes, all sessions open"
        figure = f"{row['p50']:.0f}, of them {row['delta']:.0f} in the native delta"
        target = f"{EVENT_BYTES}{missed_note(row['p50'] <= EVENT_BYTES)}"
        lines.append([f"worker, bytes an event, {span}", figure, target])
    for row in newest.of("compaction-memory"):
        mebibytes = row["p50"] / 2**20
        target = f"{COMPACTION_MIB} MiB{missed_note(mebibytes <= COMPACTION_MIB)}"
        lines.append(["compaction, the bundle included", f"{mebibytes:.0f} MiB", target])
    lines += [
        ["redaction of one session", f"{duration(row['p50'], 's')}, {row['bytes'] / 2**20:.1f} MiB", ""]
        for row in newest.of("redact")
    ]
    events = newest.rows[0]["params"]["events"]
    return table(newest, [f"{size(events)} events", "figure", "target"], lines)


def freshness(measured: Measured) -> str:
    """How soon another worker knows an event, among those of others."""
    files = measured.newest_each("live", "fresh", ("event_rate",), event_rate=lambda rate: rate is not None)
    if not files:
        return NOTHING
    files.sort(key=lambda newest: newest.rows[0]["params"]["event_rate"])
    lines = []
    for file in files:
        row = file.rows[0]
        counts = [f"{count:,.0f}" for count in (row["params"]["event_rate"], row["accepted"], row["refused"])]
        lines.append([*counts, number(row["p50"]), number(row["p99"])])
    return table(files, ["events/s offered", "accepted", "refused", "p50 ms", "p99"], lines)


BLOCKS: Mapping[str, Callable[[Measured], str]] = {
    "load": load,
    "load curve": curve,
    "request cost": request_cost,
    "learning": learning,
    "memory use": memory_use,
    "freshness": freshness,
}
