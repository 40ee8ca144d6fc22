"""Measured physical limits: how fast this core reads bytes, multiplies matrices and computes exponentials.

A floor is the fastest of its samples, of its ways and of earlier measurements in this process, while a contender is
judged by its median. Other work (a neighbor on the same physical core can halve the rate of products for minutes) then
does not make the limit look easier than it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

from bench.harness.comparison import Floor
from mtaw_fast.errors import require
from mtaw_fast.kernels.native.scan import read_bytes

_MAX_HELD = 1 << 28  # bytes read in one go: past every cache, so that more take proportionally longer
_EXPONENTS = 1 << 16  # fit in a core's cache
_BEST: dict[Hashable, float] = {}  # seconds of the fastest call so far in this process


def read_floor(nbytes: int, what: str) -> Floor:
    """Measure the seconds to read `nbytes` once on one thread and do nothing with them.

    The buffer is written first (untouched pages all map to one zero page) and read repeatedly, so that it is in the
    cache it fits in, as a served catalog is. Which of two reads is the fastest depends on the size.
    """
    words = np.ones(-(-min(nbytes, _MAX_HELD) // 8), np.int64)
    floats = words.view(np.float32)
    reads: dict[str, Callable[[], Any]] = {
        "numpy int64 max": words.max,
        "BLAS float32 dot": lambda: np.dot(floats, floats),
    }
    name, seconds = _fastest_of(reads, words.nbytes)
    seconds *= nbytes / words.nbytes
    return Floor(seconds, f"pure read of {what}, {nbytes / seconds / 1e9:.1f} GB/s ({name}, one thread)")


def scan_floor(blocks: np.ndarray, *, repeats: int = 200) -> Floor:
    """Measure the seconds to read the exact index's int8 codes once, in place, with the widest loads of this CPU."""
    seconds = _fastest(("codes", blocks.nbytes), lambda: read_bytes(blocks), repeats, seconds=1.0)
    rate = blocks.nbytes / seconds / 1e9
    return Floor(seconds, f"pure read of the int8 bytes ({blocks.nbytes / 1e6:.1f} MB), {rate:.1f} GB/s (one thread)")


def flop_floor(flop: float, what: str, dtype: str = "float32", *, size: int = 512) -> Floor:
    """Return the seconds of `flop` operations at the rate of a square product in PyTorch, on its current threads.

    dtype: 'float32' or 'bfloat16', of operands and result. At 512 a product takes 1 to 3 ms: long enough for the full
    rate, and short enough to run between two turns of a busy machine's scheduler (at 1024 the measured rate fell to a
    third there).
    """
    torch = require("torch", "train")
    kind, threads = getattr(torch, dtype), torch.get_num_threads()
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=generator).to(kind) for _ in range(2))
    result = torch.empty(size, size, dtype=kind)
    with torch.inference_mode():
        key = (size, dtype, threads)
        seconds = _fastest(key, lambda: torch.mm(left, right.T, out=result), repeats=100, seconds=1.0)
    rate = 2 * size**3 / seconds
    return Floor(flop / rate, f"{what}: {flop / 1e6:.4g} MFLOP at {rate / 1e9:.0f} GFLOP/s (torch {dtype}, {size}^3)")


def exp_floor(count: float, what: str) -> Floor:
    """Return the seconds of `count` exponentials at the best rate of NumPy and PyTorch in cache, on PyTorch's threads.

    One thread is measured; more are assumed to scale perfectly.
    """
    torch = require("torch", "train")
    threads = torch.get_num_threads()
    values = np.linspace(-20, 20, _EXPONENTS, dtype=np.float32)
    result, halves = np.empty_like(values), torch.from_numpy(values).to(torch.bfloat16)
    half_result = torch.empty_like(halves)
    ways = {
        "numpy float32": lambda: np.exp(values, out=result),
        "torch float32": lambda: torch.exp(torch.from_numpy(values), out=torch.from_numpy(result)),
        "torch bfloat16": lambda: torch.exp(halves, out=half_result),
    }
    torch.set_num_threads(1)
    try:
        name, seconds = _fastest_of(ways, _EXPONENTS)
    finally:
        torch.set_num_threads(threads)
    rate = _EXPONENTS / seconds * threads
    description = f"{what}: {count / 1e6:.4g} M exponentials at {rate / 1e9:.2f} G/s ({name}, {threads} threads)"
    return Floor(count / rate, description)


def _fastest_of(ways: Mapping[str, Callable[[], Any]], size: int) -> tuple[str, float]:
    """Return the fastest of some ways to do the same, and its seconds."""
    seconds = {name: _fastest((name, size), run, 200, seconds=1.0) for name, run in ways.items()}
    name = min(seconds, key=seconds.__getitem__)
    return name, seconds[name]


def sum_of(*floors: Floor) -> Floor:
    """Return the floor of stages that run one after the other."""
    return Floor(sum(floor.seconds for floor in floors), " + ".join(floor.what for floor in floors))


def _fastest(key: Hashable, run: Callable[[], Any], repeats: int, seconds: float) -> float:
    """Return the seconds of the fastest of up to `repeats` calls (until `seconds`) and of earlier ones under `key`."""
    run()
    best = _BEST.get(key, float("inf"))
    began = time.perf_counter()
    for _ in range(repeats):
        begin = time.perf_counter_ns()
        run()
        best = min(best, (time.perf_counter_ns() - begin) * 1e-9)
        if time.perf_counter() - began > seconds:
            break
    _BEST[key] = best
    return best
