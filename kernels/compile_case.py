"""What `compile_check` compiles: one Triton kernel as its op launches it by default, for one dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PerTile:
    """What a trip of a kernel's main loop is to do on tensor cores, by the formulas of its op's README.

    entries: number of exponentials. multiply_adds: number of multiply-adds in its matrix products. steps: the depth of
    the products divided by 16, which is how many instructions a tile of at most 256 columns takes if one instruction
    does a whole block's. copied: bytes of the tiles that it loads, 16 at a time. chunk: if vectors go in chunks, what a
    trip of the inner loop is to do, which has the products then. A compiler that unrolls that loop leaves one loop,
    whose trip does everything.
    """

    entries: int
    multiply_adds: int
    steps: int
    copied: int
    chunk: PerTile | None = None


@dataclass(frozen=True, slots=True)
class CompileCase:
    """One variant of a kernel. A module of compile_check.OPS lists an op's: `compile_cases(backend)`.

    kernel: the function under @triton.jit. dtype: the variant's label in the table ('bf16', 'fp32>bf16', ..).
    signature: Triton's type of every run-time argument by name, in the kernel's order: '*bf16', 'i32', 'fp32', ..
    constants: value of every tl.constexpr argument by name.
    num_warps, num_stages: as launched. per_tile: what its instructions are counted against, if anything. rare: whether
    it is left to `--all`. gathers: whether its main loop finds rows by number, at a 64-bit multiplication each.
    Pointers count as 16-byte aligned, as torch allocates them.
    """

    op: str
    kernel: Any
    dtype: str
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int
    num_stages: int
    per_tile: PerTile | None = None
    rare: bool = False
    gathers: bool = False
