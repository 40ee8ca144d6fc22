"""What a compiled kernel's PTX does in a tile: the instructions of its innermost loops, counted.

A kernel over B x N tiles takes one tile a trip of its main loop, so that the loop's products, exponentials and copies
are those of a tile.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from mtaw_fast.kernels.compile_case import PerTile

_LABEL = re.compile(r"^(\$L__BB\d+_\d+):", re.MULTILINE)
_BRANCH = re.compile(r"\bbra(?:\.uni)?\s+(\$L__BB\d+_\d+);")
# mma.sync is a warp's, wgmma four warps'; tcgen05.mma has its sizes in a descriptor, not in the text.
_PRODUCT = re.compile(r"\b(mma\.sync\S*?|wgmma\.mma_async\S*?)\.m(\d+)n(\d+)k(\d+)\.")
_WARPS_A_PRODUCT = {"mma.sync": 1, "wgmma.mma_async": 4}
_FIFTH_GENERATION = re.compile(r"\btcgen05\.mma\.")
_EXPONENTIAL = re.compile(r"\bex2\.approx")
_ATOMIC = re.compile(r"\b(?:atom|red)\.(?:\w+[.:])*?(?:global|gpu|sys|relaxed|acq_rel)")
_COPY = re.compile(r"\bcp\.async\.c[ag]\.shared\.global\S*\s+\[[^\]]*\],\s*\[[^\]]*\],\s*(0x[0-9a-f]+|\d+)")
_WIDE_MULTIPLY = re.compile(r"\b(?:mul|mad)\.(?:lo|hi)\.[su]64\b")


@dataclass(frozen=True, slots=True)
class Mix:
    """What one trip of the main loop does.

    family: the kind of the product instructions: 'mma', 'wgmma', 'tcgen05', or ''. products: how many the text has.
    multiply_adds: how many a whole block does; 0 for tcgen05, whose text does not show it. exponentials: how many a
    thread does. copies: bytes of each asynchronous copy of a thread, ascending. wide_multiplies: 64-bit multiplications
    in the loop. atomics: how many the whole kernel has. loops: whether there is a loop at
    all.
    """

    family: str
    products: int
    multiply_adds: int
    exponentials: int
    copies: tuple[int, ...]
    wide_multiplies: int
    atomics: int
    loops: bool = True

    def describe(self) -> str:
        """Return the instructions of a thread in one line, such as '12 wgmma, 32 ex2, copies 8x16'."""
        copies = [f"{self.copies.count(size)}x{size}" for size in sorted(set(self.copies))]
        parts = [f"{self.products} {self.family}" if self.products else "", f"{self.exponentials} ex2"]
        wide = [f"{self.wide_multiplies} 64-bit multiplies"] if self.wide_multiplies else []
        return ", ".join(filter(None, [*parts, f"copies {' '.join(copies)}" if copies else "", *wide]))


def mix_of(ptx: str, num_warps: int) -> Mix:
    """Count a kernel's instructions; a kernel without a loop is its own one trip."""
    loops = list(_innermost_loops(ptx))
    loop = max(loops, key=_weight, default=ptx)
    multiply_adds, family = 0, ""
    for name, *sizes in _PRODUCT.findall(loop):
        family = "wgmma" if name.startswith("wgmma") else "mma"
        m, n, k = map(int, sizes)
        warps = _WARPS_A_PRODUCT["wgmma.mma_async" if family == "wgmma" else "mma.sync"]
        multiply_adds += m * n * k * (num_warps // warps)
    fifth = len(_FIFTH_GENERATION.findall(loop))
    return Mix(
        family="tcgen05" if fifth else family,
        products=fifth or len(_PRODUCT.findall(loop)),
        multiply_adds=multiply_adds,
        exponentials=len(_EXPONENTIAL.findall(loop)),
        copies=tuple(sorted(int(size, 0) for size in _COPY.findall(loop))),
        wide_multiplies=len(_WIDE_MULTIPLY.findall(loop)),
        atomics=len(_ATOMIC.findall(ptx)),
        loops=bool(loops),
    )


def mix_faults(mix: Mix, per_tile: PerTile, family: str, threads: int) -> list[str]:
    """Where the instructions are not those of the formulas; empty where they are. family: the target's."""
    if per_tile.chunk is not None:
        faults = mix_faults(mix, per_tile.chunk, family, threads)
        # Where the chunks are unrolled, copies ahead of a tile are in the loop too, and they are not counted.
        whole = dataclasses.replace(per_tile, chunk=None, copied=16 * threads * mix.copies.count(16))
        return mix_faults(mix, whole, family, threads) and faults
    checks = [
        ("products by", mix.family or "no tensor core", family),
        ("exponentials a tile", mix.exponentials * threads, per_tile.entries),
        ("bytes a tile copied 16 at a time", 16 * threads * mix.copies.count(16), per_tile.copied),
    ]
    if mix.family == "tcgen05":
        checks.append(("products a tile", mix.products, per_tile.steps))
    else:
        checks.append(("multiply-adds a tile", mix.multiply_adds, per_tile.multiply_adds))
    return [f"{name}: {actual}, not {expected}" for name, actual, expected in checks if actual != expected]


def _innermost_loops(ptx: str) -> Iterator[str]:
    """Texts from a label to the last branch back to it that contain no other such text."""
    labels = {match[1]: match.start() for match in _LABEL.finditer(ptx)}
    ends: dict[int, int] = {}
    for match in _BRANCH.finditer(ptx):
        begin = labels.get(match[1], len(ptx))
        if begin < match.start():
            ends[begin] = match.end()
    for begin, end in ends.items():
        if not any(begin < other < end for other in ends if other != begin):
            yield ptx[begin:end]


def _weight(loop: str) -> int:
    """Which of several loops is the main one: the one with the products, else with the exponentials."""
    products = len(_PRODUCT.findall(loop)) + len(_FIFTH_GENERATION.findall(loop))
    return 1000 * products + len(_EXPONENTIAL.findall(loop))
