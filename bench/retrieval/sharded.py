"""An exact index in shards on a local Ray against one index of the same vectors, and a plan for a larger one.

python -m bench.retrieval.sharded [--quick] [--items N] [--shards S] [--alone] [--plan-items N] [--json FILE]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.harness.comparison import Case, Contender, Plan, Timing, limit_threads, time_interleaved
from bench.harness.report import Report, bench_parser, command, parse, say
from mtaw_fast.errors import UsageError, require
from mtaw_fast.integrations.cluster import cluster
from mtaw_fast.integrations.sharded_index import ShardedIndex
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.ranking.retrieval.merging import Found, merged

K, D = 20, 100
ITEMS, SHARDS, PLANNED = 10_000_000, 4, 100_000_000
_BLOCK = 1 << 16  # rows that are drawn at a time, so that a shard can make its own
_FEW = 1_000  # items of a shard whose search costs only the round trip
_PIECE = 700_000  # items of a piece, if one index of all does not fit into memory
_CHECKED = 24  # queries whose answers are compared
_SHARD_CALLS = 500
_LOADING = 900.0  # seconds for an answer while shards are checked
_QUERIES = 512
_PLAN = Plan(rounds=60, burst=5, settle=1, seconds=120.0)
_QUICK_PLAN = Plan(rounds=40, burst=5, settle=1, seconds=10.0)
_WAY_PLAN = Plan(rounds=400, burst=5, settle=0, seconds=15.0)
_USABLE = 0.8  # of a machine's memory
_BUSY = 0.5  # of a machine's processors, on average: the rest is for peaks and for a failed machine


@dataclass(frozen=True, slots=True)
class RandomRows:
    """The rows begin..end - 1 of a random catalog of unit vectors, drawn by the process that searches them."""

    begin: int
    end: int

    def vectors(self) -> np.ndarray:
        """See `ShardSource.vectors`."""
        rows = np.empty((self.end - self.begin, D), np.float32)
        for block in range(self.begin // _BLOCK, -(-self.end // _BLOCK)):
            values = np.random.default_rng((1, block)).standard_normal((_BLOCK, D), dtype=np.float32)
            first = block * _BLOCK
            low, high = max(first, self.begin), min(first + _BLOCK, self.end)
            if low < high:
                rows[low - self.begin : high - self.begin] = normalized(values[low - first : high - first])
        return rows


def sources(n_items: int, n_shards: int) -> list[RandomRows]:
    """Return equal ranges of a catalog."""
    cuts = [n_items * shard // n_shards for shard in range(n_shards + 1)]
    return [RandomRows(cuts[shard], cuts[shard + 1]) for shard in range(n_shards)]


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("retrieval.sharded", (__doc__ or "").splitlines()[0], "a minute: 400,000 items")
    parser.add_argument("--items", type=int, metavar="N", help=f"of the catalog (default: {ITEMS})")
    parser.add_argument("--shards", type=int, default=SHARDS, metavar="S", help=f"(default: {SHARDS})")
    parser.add_argument("--alone", action="store_true", help="without the one index, which takes as much memory")
    parser.add_argument(
        "--plan-items", type=int, default=PLANNED, metavar="N", help=f"to plan for (default: {PLANNED})"
    )
    parser.add_argument("--cores", type=int, default=16, help="of a machine of the plan (default: 16)")
    parser.add_argument("--gib", type=float, default=64.0, help="memory of a machine of the plan (default: 64)")
    parser.add_argument("--bandwidth", type=float, default=100.0, metavar="GB/S", help="of its memory (default: 100)")
    parser.add_argument("--price", type=float, default=0.80, help="an hour of a machine of the plan (default: 0.80)")
    options = parse(parser, argv)
    n_items = options.items or (400_000 if options.quick else ITEMS)
    if n_items < options.shards or options.shards < 1:
        raise UsageError(f"--items {n_items} in --shards {options.shards}: give each shard an item at least")
    for package in ("psutil", "rich"):
        require(package, "bench")
    with limit_threads(1), cluster(cpus=options.shards) as _:
        return _run(options, n_items)


def _run(options: argparse.Namespace, n_items: int) -> int:
    report = Report("sharded_index", options.quick)
    machine = Machine(options.cores, options.gib, options.bandwidth * 1e9, options.price)
    queries = normalized(np.random.default_rng(2).standard_normal((_QUERIES, D)).astype(np.float32))
    round_trip = _way(options.shards, queries)
    say(f"{options.shards} shards make {n_items:,} items")
    began = time.perf_counter()
    with ShardedIndex.start(sources(n_items, options.shards), timeout=_LOADING, cpus=0.9) as sharded:
        loading = time.perf_counter() - began
        single_index = None
        if not options.alone:
            say("one index of the same items")
            single_index = NativeIndex(RandomRows(0, n_items).vectors())
        case = _case(sharded, single_index, queries, _QUICK_PLAN if options.quick else _PLAN)
        say("compared and timed")
        comparison = report.run(case)
        if comparison is None:
            return report.finish(options.json)
        cpu = _processor_seconds(lambda call: sharded.search(queries[call % _QUERIES][None], K), 200)
    del single_index, case  # frees its memory
    shard = _shard_costs(n_items // options.shards, queries)
    items = n_items // options.shards
    overhead = cpu - options.shards * float(np.median(shard.seconds))
    costs = ShardCosts(
        items, shard.seconds, shard.bytes / items, shard.read / items, round_trip.seconds.ravel(), overhead
    )
    report.notes += [
        f"{n_items:,} items were made, quantized and ready in {loading:.0f} s",
        f"processor time a request, all processes: {cpu * 1e3:.2f} ms",
        *describe(costs, machine, options.plan_items),
    ]
    return report.finish(options.json)


def _case(sharded: ShardedIndex, one: NativeIndex | None, queries: np.ndarray, plan: Plan) -> Case:
    """Compare one query at a time. Both answers must be equal to the bit."""

    def asked(call: int) -> np.ndarray:
        return queries[call % _QUERIES][None]

    def check(contender: Contender) -> str | None:
        if contender.name != "shards":
            return None
        checked = queries[:_CHECKED]
        expected = _piece_by_piece(sharded.n_items, checked) if one is None else one.search(checked, K)
        for call in range(_CHECKED):
            for ours, theirs in zip(contender.run(call), expected, strict=True):
                if ours.tobytes() != theirs[call : call + 1].tobytes():
                    return f"query {call} is not answered as by one index"
        return None

    params = {"catalog": sharded.n_items, "d": D, "k": K, "batch": 1, "shards": len(sharded.ranges)}
    baselines = [] if one is None else [Contender("one-index", lambda call: one.search(asked(call), K))]
    ours = Contender("shards", lambda call: sharded.search(asked(call), K))
    return Case("sharded", params, "latency_ms", ours, baselines, check, plan)


def _piece_by_piece(n_items: int, queries: np.ndarray) -> Found:
    """Return what one index finds, by indexes of pieces that are made in turn and cut differently from the shards."""
    pieces = range(0, n_items, _PIECE)
    parts = [
        (begin, NativeIndex(RandomRows(begin, min(begin + _PIECE, n_items)).vectors()).search(queries, K))
        for begin in pieces
    ]
    return merged(parts, len(queries), K)


def _way(n_shards: int, queries: np.ndarray) -> Timing:
    """Time calls of an index with as many shards and next to nothing to search."""
    with ShardedIndex.start(sources(_FEW * n_shards, n_shards), timeout=_LOADING, cpus=0.9) as index:
        (timing,) = time_interleaved(
            [Contender("way", lambda call: index.search(queries[call % _QUERIES][None], K))], _WAY_PLAN
        )
    return timing


@dataclass(frozen=True, slots=True)
class _Shard:
    """The measured costs of one shard.

    seconds: float64[..], processor time of each call. bytes: bytes of vectors and codes. read: how many of them a
    search reads.
    """

    seconds: np.ndarray
    bytes: int
    read: int


def _shard_costs(n_items: int, queries: np.ndarray) -> _Shard:
    """Measure one shard's searches in this process."""
    say(f"one shard of {n_items:,} items")
    vectors = RandomRows(0, n_items).vectors()
    codes = quantize(vectors)
    index = NativeIndex(vectors, codes)
    # Processor time: other work on the machine stretches a call, and not what it computes.
    seconds = np.empty(_SHARD_CALLS)
    for call in range(_SHARD_CALLS):
        began = time.thread_time()
        index.search(queries[call % _QUERIES][None], K)
        seconds[call] = time.thread_time() - began
    read_bytes = codes["half_blocks" if "half_blocks" in codes else "blocks"].nbytes
    return _Shard(seconds, vectors.nbytes + sum(array.nbytes for array in codes.values()), read_bytes)


def _processor_seconds(call: Callable[[int], object], calls: int) -> float:
    """Return the processor time of a call, of this process and all its descendants."""
    psutil = require("psutil", "bench")
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]

    def spent() -> float:
        times = [process.cpu_times() for process in processes if process.is_running()]
        return sum(cpu.user + cpu.system for cpu in times)

    before = spent()
    for number in range(calls):
        call(number)
    return (spent() - before) / calls


@dataclass(frozen=True, slots=True)
class Machine:
    """A rented machine.

    cores: number of processors. gib: memory. bandwidth: bytes that all processors together read in a second. price: for
    an hour.
    """

    cores: int
    gib: float
    bandwidth: float
    price: float


@dataclass(frozen=True, slots=True)
class ShardCosts:
    """Measured costs of a shard.

    items: number of items in the shard. search: float64[..], processor seconds of its searches. bytes_per_item: bytes
    of vectors and codes. read_per_item: how many of them a search reads. way: float64[..], seconds of a round trip to
    an index with nothing to search. overhead: processor seconds of a request without the searches.
    """

    items: int
    search: np.ndarray
    bytes_per_item: float
    read_per_item: float
    way: np.ndarray
    overhead: float


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A plan of machines and shards, and what it gives.

    machines, shards: how many. memory: GiB in all. p50, p99: seconds. rate: requests a second of all machines, half
    busy. per_million: the cost of a million requests at that rate.
    """

    machines: int
    shards: int
    memory: float
    p50: float
    p99: float
    rate: float
    per_million: float


def planned(costs: ShardCosts, machine: Machine, n_items: int) -> ShardPlan:
    """Return the plan for `n_items`: the fewest machines that hold them, with a shard for every processor.

    A search takes time in proportion to a shard's items, and at least the time in which the machine reads what its
    shards read together. An answer waits for the slowest of S shards: its p99 is the 0.99^(1/S) quantile of a shard.
    """
    memory = n_items * costs.bytes_per_item / 2**30
    machines = math.ceil(memory / (machine.gib * _USABLE))
    shards = machines * machine.cores
    stretch = n_items / shards / costs.items
    reading = n_items * costs.read_per_item / (machines * machine.bandwidth)

    def latency(share: float) -> float:
        slowest = share ** (1 / shards)
        search = max(float(np.quantile(costs.search, slowest)) * stretch, reading)
        return search + float(np.quantile(costs.way, share))

    # A request takes a processor of every shard for a search, and its share of the overhead; and the memory.
    processor = shards * float(np.median(costs.search)) * stretch + costs.overhead
    rate = _BUSY * min(shards / processor, 1 / reading)
    return ShardPlan(
        machines, shards, memory, latency(0.5), latency(0.99), rate, machines * machine.price / 3600 / rate * 1e6
    )


def describe(costs: ShardCosts, machine: Machine, n_items: int) -> list[str]:
    """Describe the plan and its parts, for people."""
    plan = planned(costs, machine, n_items)
    median, slow = (float(np.quantile(costs.search, share)) for share in (0.5, 0.99))
    round_trip, slow_round_trip = (float(np.quantile(costs.way, share)) for share in (0.5, 0.99))
    return [
        f"measured: a shard of {costs.items:,} items takes {median * 1e3:.2f} ms ({median / costs.items * 1e9:.2f} ns "
        f"an item, p99 {slow * 1e3:.2f} ms) and {costs.bytes_per_item:.0f} bytes an item, {costs.read_per_item:.0f} of "
        f"them read; a round trip {round_trip * 1e3:.2f} ms (p99 {slow_round_trip * 1e3:.2f} ms); "
        f"{costs.overhead * 1e3:.2f} ms of processor time a request without the searches",
        f"a plan, not a measurement, for {n_items:,} items on machines of {machine.cores} processors, {machine.gib:g} "
        f"GiB, {machine.bandwidth / 1e9:g} GB/s and {machine.price:g} an hour: {plan.memory:.0f} GiB on "
        f"{plan.machines} machines, {plan.shards} shards, p50 {plan.p50 * 1e3:.1f} ms, p99 {plan.p99 * 1e3:.1f} ms, "
        f"{plan.rate:.0f} requests/s with half of it busy, {plan.per_million:.2f} a million requests",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
