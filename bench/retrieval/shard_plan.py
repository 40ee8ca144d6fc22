"""Plan a sharded index of any size from measured costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_USABLE = 0.8  # of a machine's memory
_BUSY = 0.5  # of a machine's processors, on average: the rest is for peaks and for a failed machine


@dataclass(frozen=True, slots=True)
class Machine:
    """cores: processors. gib: memory. bandwidth: bytes a second that they read together. price: an hour."""

    cores: int
    gib: float
    bandwidth: float
    price: float


@dataclass(frozen=True, slots=True)
class ShardCosts:
    """Measured costs of a shard.

    items: of the shard. search: float64[..] processor seconds of its searches. bytes_per_item: vectors and codes;
    read_per_item: those that a search reads. way: float64[..] seconds of a round trip to an index with nothing to
    search. overhead: processor seconds of a request without the searches.
    """

    items: int
    search: np.ndarray
    bytes_per_item: float
    read_per_item: float
    way: np.ndarray
    overhead: float


@dataclass(frozen=True, slots=True)
class Plan:
    """machines, shards: their numbers. memory: GiB in all. p50, p99: seconds. rate: requests a second of all machines,
    half busy. per_million: the cost of a million requests at that rate."""

    machines: int
    shards: int
    memory: float
    p50: float
    p99: float
    rate: float
    per_million: float


def planned(costs: ShardCosts, machine: Machine, n_items: int) -> Plan:
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
    return Plan(
        machines, shards, memory, latency(0.5), latency(0.99), rate, machines * machine.price / 3600 / rate * 1e6
    )


def describe(costs: ShardCosts, machine: Machine, n_items: int) -> list[str]:
    """Describe the plan and its parts, for people."""
    plan = planned(costs, machine, n_items)
    median, slow = (float(np.quantile(costs.search, share)) for share in (0.5, 0.99))
    way, slow_way = (float(np.quantile(costs.way, share)) for share in (0.5, 0.99))
    return [
        f"measured: a shard of {costs.items:,} items takes {median * 1e3:.2f} ms ({median / costs.items * 1e9:.2f} ns "
        f"an item, p99 {slow * 1e3:.2f} ms) and {costs.bytes_per_item:.0f} bytes an item, {costs.read_per_item:.0f} of "
        f"them read; a round trip {way * 1e3:.2f} ms (p99 {slow_way * 1e3:.2f} ms); "
        f"{costs.overhead * 1e3:.2f} ms of processor time a request without the searches",
        f"a plan, not a measurement, for {n_items:,} items on machines of {machine.cores} processors, {machine.gib:g} "
        f"GiB, {machine.bandwidth / 1e9:g} GB/s and {machine.price:g} an hour: {plan.memory:.0f} GiB on "
        f"{plan.machines} machines, {plan.shards} shards, p50 {plan.p50 * 1e3:.1f} ms, p99 {plan.p99 * 1e3:.1f} ms, "
        f"{plan.rate:.0f} requests/s with half of it busy, {plan.per_million:.2f} a million requests",
    ]
