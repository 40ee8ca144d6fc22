"""Launch settings of the Triton kernels, each with its reason.

None has been tuned by measurement on a GPU: they follow from registers and shared memory, which
`compile_check` prints, and from the lengths of sessions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

MAX_D = 128  # a tile's rows and sums are held in registers whole
TILE_CLICKS = (16, 32, 64)  # a matrix product takes at least 16 rows; at 64 the backward kernel has no register left

# Of Tmall's and RetailRocket's training sessions 99.4% and 99.3% have at most 32 clicks and fit into one tile. With
# 64 a batch of 512 clicks makes 8 programs instead of 16, for more than 100 multiprocessors, and twice the
# attention outside the diagonal blocks; with 16, 26% of Tmall's clicks belong to longer sessions.
DEFAULT_TILE_CLICKS = 32


@dataclass(frozen=True, slots=True)
class TileConfig:
    """Settings of the kernels that take one tile a program.

    part: columns of a tile that one matrix product takes at once. num_warps, num_stages: Triton's.
    """

    part: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class WeightConfig:
    """Settings of the weight-gradient kernel.

    rows: rows of a weight matrix a program. step: slots that one matrix product takes at once.
    """

    rows: int
    step: int
    num_warps: int
    num_stages: int


# Eight warps, since with four the largest kernel has no register left (255 a thread, and 8 bytes spilled at
# part=64) on sm_90; with eight it takes 216, and tiles of 64 clicks fit too. Most loops have one trip or two: one
# stage, as there is nothing to pipeline.
_HALF_TILE = TileConfig(part=64, num_warps=8, num_stages=1)
# A float32 product runs on the plain units and holds both operands in registers whole: with 128 columns even
# a lone product of a 32-row tile spills kilobytes a thread, with 32 the largest kernel takes 226 registers.
_FLOAT_TILE = TileConfig(part=32, num_warps=8, num_stages=1)
# AMD's warps have 64 threads: eight of them share the register file so thinly that the largest kernel spills
# 1,420 bytes a thread on gfx942, with four and half the columns 96.
_HALF_TILE_HIP = TileConfig(part=32, num_warps=4, num_stages=1)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def tile_config(dtype: torch.dtype, hip: bool) -> TileConfig:
    """Settings for a compute dtype, on AMD's GPUs or on NVIDIA's."""
    if dtype == torch.float32:
        return _FLOAT_TILE
    return _HALF_TILE_HIP if hip else _HALF_TILE


# The loop over a part's slots is the kernel's whole work: two stages load the next step during a product.
_HALF_WEIGHT = WeightConfig(rows=64, step=64, num_warps=4, num_stages=2)
_FLOAT_WEIGHT = WeightConfig(rows=32, step=16, num_warps=4, num_stages=2)  # 32 x 128 sums: 32 registers a thread
WEIGHT = {torch.float32: _FLOAT_WEIGHT, torch.bfloat16: _HALF_WEIGHT, torch.float16: _HALF_WEIGHT}

# Slots are cut into at most this many parts of at least so many slots: a part's sums are 4 d (d + 1) floats
# (162 kB at d = 100), written and read once more, which a part's products must outweigh.
MAX_PARTS = 32
MIN_PART_SLOTS = 128
ADD_BLOCK = 256  # 40,400 sums at d = 100: 158 programs


def slots_a_part(n_slots: int) -> int:
    """Slots that one weight-gradient program sums: a multiple of every step, the same on every GPU."""
    slots = max(MIN_PART_SLOTS, -(-n_slots // MAX_PARTS))
    return -(-slots // MIN_PART_SLOTS) * MIN_PART_SLOTS


def part_of(config: TileConfig, columns: int) -> int:
    """Columns that one product takes of a tile of `columns`: of 64 half, since whole rows spill 8 bytes on sm_90."""
    return min(config.part, max(columns // 2, 32), columns)


def padded(d: int) -> int:
    """Columns of a tile in registers: a power of two, at least 16."""
    return max(16, 1 << (d - 1).bit_length())
