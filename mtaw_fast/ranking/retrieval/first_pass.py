"""Which codes the first pass of an exact search reads: int8 or 4-bit, as measured on this machine, and kept.

With 'int8' the codes are whole and the pass reads all of each. With '4-bit' they are nested
(`kernels.native.scan.quantize`): the pass reads the upper 4 bits, half the bytes, and then the lower ones of the items
that are left. Which pays depends on the CPU's caches, its instruction sets and the size of the catalog. The results are
the same to the bit. A pass over both parts would read two streams and 8% more bytes, so 'int8' keeps the whole form.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast import __version__
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.scan import Scanner, nested, whole
from mtaw_fast.storage.files import read_json, write_json

VARIABLE = "MTAW_FIRST_PASS"
CHOICES = ("auto", "int8", "4-bit")
MIN_ITEMS = 16_384  # below, the int8 codes fit in a core's own cache
_K = 20
_PAYS = 0.95  # a 4-bit pass must save at least this share of the time: nested codes take 8% more memory
_ROUNDS, _MIN_ROUNDS, _SECONDS = 9, 3, 0.02


@dataclass(frozen=True, slots=True)
class FirstPass:
    """The codes that the first pass reads.

    codes: 'int8' or '4-bit'. ratio: the time of a search with 4-bit codes over that with int8 ones, None if nobody
    measured. reason: why, in a few words.
    """

    codes: str
    ratio: float | None
    reason: str

    def __str__(self) -> str:
        share = "" if self.ratio is None else f"; 4-bit take {self.ratio:.2f} of the time of int8"
        return f"{self.codes} codes ({self.reason}{share})"


def with_first_pass(
    catalog: np.ndarray, quantized: Mapping[str, np.ndarray]
) -> tuple[Mapping[str, np.ndarray], FirstPass]:
    """Return the codes that a search should read, whole or nested, and the choice.

    MTAW_FIRST_PASS sets it: 'int8', '4-bit', or 'auto', the default: measured in some milliseconds on this catalog,
    and kept for this release, CPU and size in the user's cache (`kept_file`).

    quantized: what `kernels.native.scan.quantize` made of the catalog float32[N, d], whole or nested; the other form is
    made here where it is wanted. Raises UsageError on another value of MTAW_FIRST_PASS, ValueError if the two do not
    belong together.
    """
    choice = _without_measuring(len(catalog))
    if choice is not None:
        return _in_form(quantized, choice.codes), choice
    name, kept_ratios = _name(catalog), _read()
    ratio, reason = kept_ratios.get(name), "measured on this machine before"
    forms = {}
    if ratio is None:
        forms = {"int8": whole(quantized), "4-bit": nested(quantized)}
        ratio, reason = measure(catalog, forms["int8"], forms["4-bit"]), "measured now"
        _write({**kept_ratios, name: round(ratio, 3)})
    codes = _faster(ratio)
    return forms.get(codes) or _in_form(quantized, codes), FirstPass(codes, ratio, reason)


def kept_first_pass(catalog: np.ndarray) -> FirstPass | None:
    """Return what `with_first_pass` would choose, None if it would have to measure. Raises UsageError as that does."""
    choice = _without_measuring(len(catalog))
    if choice is not None:
        return choice
    ratio = _read().get(_name(catalog))
    return None if ratio is None else FirstPass(_faster(ratio), ratio, "measured on this machine before")


def measure(catalog: np.ndarray, int8: Mapping[str, np.ndarray], halves: Mapping[str, np.ndarray]) -> float:
    """Return the processor time of a search with nested codes over that with whole ones: the median, in turn.

    The queries are rows of the catalog.
    """
    scanners = Scanner(catalog, int8), Scanner(catalog, halves)
    queries = np.ascontiguousarray(catalog[np.linspace(0, len(catalog) - 1, _ROUNDS + 1, dtype=np.int64)])
    ratios: list[float] = []
    began = time.perf_counter()
    for number in range(len(queries)):
        times = []
        for scanner in scanners:
            begin = time.thread_time_ns()
            scanner.search(queries[number : number + 1], _K, 1.0)
            times.append(max(1, time.thread_time_ns() - begin))
        if number > 0:  # the first one brings the codes from the disk
            ratios.append(times[1] / times[0])
        if len(ratios) >= _MIN_ROUNDS and time.perf_counter() - began > _SECONDS:
            break
    return statistics.median(ratios)


def kept_file() -> Path | None:
    """Return where measurements are kept: mtaw-fast/first-pass.json in $XDG_CACHE_HOME or ~/.cache; None: nowhere."""
    try:
        folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # this user has no home
        return None
    return Path(folder) / "mtaw-fast" / "first-pass.json"


def _without_measuring(n_items: int) -> FirstPass | None:
    """Return the choice that MTAW_FIRST_PASS or a small catalog makes; None if it takes a measurement."""
    choice = os.environ.get(VARIABLE) or "auto"
    if choice not in CHOICES:
        raise UsageError(f"${VARIABLE} is {choice!r}; set it to {', '.join(CHOICES)}, or leave it unset")
    if choice != "auto":
        return FirstPass(choice, None, f"${VARIABLE}")
    return FirstPass("int8", None, f"fewer than {MIN_ITEMS:,} items") if n_items < MIN_ITEMS else None


def _in_form(quantized: Mapping[str, np.ndarray], codes: str) -> Mapping[str, np.ndarray]:
    return whole(quantized) if codes == "int8" else nested(quantized)


def _faster(ratio: float) -> str:
    return "int8" if ratio >= _PAYS else "4-bit"


def _name(catalog: np.ndarray) -> str:
    """Return the name of a measurement: release, CPU, instruction set, codes, and rounded size of the catalog."""
    size = f"nested codes of {catalog.shape[1]} dimensions, about {_rounded(len(catalog))} items"
    return f"{__version__}, {_cpu_name()}, {_native.active_isa()}, {size}"


def _rounded(n_items: int) -> int:
    """Return the nearest power of 2^(1/4): catalogs of sizes with the same one share a measurement."""
    return round(2 ** (round(4 * math.log2(n_items)) / 4))


@functools.cache
def _cpu_name() -> str:
    """Return the CPU's model and caches, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    names = ("model name", "cpu family", "model", "CPU part", "cache size")
    return " ".join(facts[name] for name in names if name in facts) or platform.machine()


def _read() -> dict[str, float]:
    path = kept_file()
    try:
        ratios = {} if path is None else read_json(path, UsageError)
    except (MtawError, OSError):
        return {}
    if not isinstance(ratios, dict):
        return {}
    return {name: value for name, value in ratios.items() if isinstance(value, float) and 0 < value < math.inf}


def _write(ratios: Mapping[str, float]) -> None:
    """Write the measurements; a cache that cannot be written costs another measurement, no more."""
    path = kept_file()
    with suppress(MtawError, OSError):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, dict(ratios))
