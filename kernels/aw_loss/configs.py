"""Launch knobs of the Triton backend. Nothing is tuned at run time.

No knob was measured on a GPU yet: each was chosen by what compile_check prints, and its reason says which bound
it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

# Programs that the passes split by the catalog should have in flight: about four for each multiprocessor of the
# largest parts (132 to 152), so that the last wave is short. It follows the shapes alone, never the device: the
# number of splits decides the order of the sums, and with it the bits of the result.
PROGRAMS = 512
# A row's partial sums are added up in one tile of at most this many.
MAX_SPLITS = 64


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel over B x N tiles.

    rows, items: of a tile. depth: columns of one matrix product for the cosines (they are padded to it in
    registers; d beyond it goes in chunks). columns: of the gradient that one program sums. warps, stages: Triton's.
    """

    rows: int
    items: int
    depth: int
    columns: int
    warps: int
    stages: int

    def constants(self, d: int, gradient: bool = True) -> dict[str, int]:
        """The kernel's compile-time arguments."""
        sizes = {"D": d, "ROWS": self.rows, "ITEMS": self.items, "DEPTH": self.depth}
        return sizes | {"COLUMNS": self.columns} if gradient else sizes


@dataclass(frozen=True, slots=True)
class Knobs:
    """The three passes over the catalog."""

    sums: Launch
    queries: Launch
    items: Launch


def knobs(d: int, dtype: str, backend: str) -> Knobs:
    """Knobs for vectors of d and a dtype of the matrix products ('fp32', 'bf16', 'fp16') on 'cuda' or 'hip'."""
    width = max(16, power_of_two(d))
    if dtype == "fp32":
        # Exact float32 products run outside the tensor cores: a thread holds its operands for the whole depth of a
        # product, so depths are 32 and 16; twice that spills 700 bytes a thread on sm_90.
        depth, columns = min(width, 32), min(width, 128)
        return Knobs(
            sums=Launch(32, 32, depth, columns, warps=4, stages=2),
            queries=Launch(32, 16, depth, columns, warps=4, stages=2),
            items=Launch(16, 32, depth, columns, warps=4, stages=2),
        )
    # AMD has 64 KB of shared memory a block and no use for a third stage.
    stages = 3 if backend == "cuda" else 2
    if width <= 128:
        # Whole vectors; 64 rows are one tensor-core instruction's on sm_90. With the gradient beside them the
        # cosines take half the tile; the items' pass ends with a float32 tile of vectors, so its tile is halved again.
        return Knobs(
            sums=Launch(64, 128, width, width, 4, stages),
            queries=Launch(64, 64, width, width, 4, stages),
            items=Launch(32, 64, width, width, 4 if backend == "cuda" else 8, stages),
        )
    # In chunks both operands of the cosines are loaded anew, which takes registers from the tiles.
    return Knobs(
        sums=Launch(64, 64, 64, 128, 4, stages),
        queries=Launch(32, 32, 64, 128, 4, stages),
        items=Launch(32, 32, 64, 128, 4, stages),
    )


def splits(n_rows: int, n_items: int, launch: Launch) -> tuple[int, int]:
    """(splits of the catalog, tiles a split) for a pass over rows x items; every split has a tile."""
    row_blocks = -(-n_rows // launch.rows)
    tiles = -(-n_items // launch.items)
    wanted = min(max(PROGRAMS // row_blocks, 1), MAX_SPLITS, tiles)
    tiles_a_split = -(-tiles // wanted)
    return -(-tiles // tiles_a_split), tiles_a_split


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def row_tile(d: int) -> dict[str, int]:
    """Compile-time sizes of a kernel that holds whole rows of d in registers, a few thousand entries a program."""
    columns = power_of_two(d)
    return {"ROWS": max(1, 2048 // columns), "COLUMNS": columns}


def split_tile(d: int) -> dict[str, int]:
    """Compile-time sizes of the kernel that adds up a row's partial gradients, as many at once as registers hold."""
    columns = power_of_two(d)
    return {"COLUMNS": columns, "SPLITS": max(1, min(MAX_SPLITS, 4096 // columns))}
