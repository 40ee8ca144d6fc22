"""What `compile_check` compiles: one Triton kernel as its op launches it by default, for one dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PerTile:
    """What a trip of a kernel's main loop is to do on tensor cores, by the formulas of its op's README.

    entries: exponentials. multiply_adds: of its matrix products. steps: its products' depths over 16, which is how many
    instructions a tile of at most 256 columns takes if one instruction does a whole block's. copied: bytes of the
    tiles that it loads, all of which travel 16 bytes at a time. bulk: instructions that copy by a tensor map, instead.
    chunk: what a trip of an inner loop is to do where vectors go in chunks and that is the loop with the products; a
    compiler that unrolls it leaves one loop, whose trip does all.
    """

    entries: int
    multiply_adds: int
    steps: int
    copied: int
    bulk: int = 0
    chunk: PerTile | None = None


@dataclass(frozen=True, slots=True)
class CompileCase:
    """One variant of a kernel. A module of compile_check.OPS lists an op's: `compile_cases(backend)`.

    kernel: the function under @triton.jit. dtype: the variant's label in the table ('bf16', 'fp32>bf16', ..).
    signature: Triton's type of every run-time argument by name, in the kernel's order: '*bf16', 'i32', 'fp32', ..
    constants: value of every tl.constexpr argument by name.
    num_warps, num_stages: as launched. per_tile: what its instructions are counted against, if anything. least_arch: of
    NVIDIA's, the first that it is for. rare: whether it is left to `--all`. gathers: whether its main loop finds rows
    by number, at a 64-bit multiplication each.
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
    min_arch: int = 0
    rare: bool = False
    gathers: bool = False
