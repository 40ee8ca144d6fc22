"""Launch knobs of the Triton backend. Nothing is tuned at run time.

No knob was measured on a GPU yet: each was chosen by what compile_check prints, and its reason says which bound
it keeps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# Programs that the passes split by the catalog should have in flight: about four for each multiprocessor of the
# largest parts (132 to 152), so that the last wave is short. It follows only the shapes, never the device: the
# number of splits decides the order of the sums, and with it the bits of the result.
PROGRAMS = 512
# A row's partial sums are added up in one tile of at most this many.
MAX_SPLITS = 64
WIDTH_MULTIPLE = 8  # entries of two bytes in 16 bytes


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel over B x N tiles.

    rows, items: the size of a tile. depth: columns of one matrix product for the cosines (they are padded to it in
    registers; d beyond it goes in chunks). columns: how many columns of the vectors one program sums. warps, stages: as
    Triton has them. precision: PRECISION of float32 products, as in `dot`.
    """

    rows: int
    items: int
    depth: int
    columns: int
    warps: int
    stages: int
    precision: str = "ieee"

    def cosines(self, width: int) -> dict[str, int | str]:
        """Return the compile-time arguments of a kernel that sums no vectors. width: of the unit vectors in memory."""
        return {
            "WIDTH": width, "ROWS": self.rows, "ITEMS": self.items, "DEPTH": self.depth, "PRECISION": self.precision,
        }  # fmt: skip

    def constants(self, width: int) -> dict[str, int | str]:
        """Return the compile-time arguments of a kernel that sums vectors. width: of the unit vectors in memory."""
        return {**self.cosines(width), "COLUMNS": self.columns}


@dataclass(frozen=True, slots=True)
class Knobs:
    """The passes over the catalog.

    queries: forward, a program holds queries and goes through items. It takes the same tiles whether it sums vectors
    or not, so that the loss has the same bits. items: backward, a program holds items and goes through queries.
    negatives, negative_items: the second and third pass of negatives=True, whose first takes the tiles of `queries`.
    """

    queries: Launch
    items: Launch
    negatives: Launch
    negative_items: Launch


STAGES = 3  # of cuda; AMD has 64 KB of shared memory a block and no use for a third


def knobs(d: int, dtype: str, backend: str) -> Knobs:
    """Return the knobs for vectors of d, products in 'fp32', 'tf32x3', 'bf16' or 'fp16', on 'cuda' or 'hip'."""
    columns = max(16, power_of_two(d))  # of a whole vector in registers
    if dtype == "fp32":
        # Exact float32 products run outside the tensor cores: a thread holds its operands for the whole depth of a
        # product, so depths are 32 and 16; twice that spills 700 bytes a thread on sm_90.
        depth, columns = min(columns, 32), min(columns, 128)
        return Knobs(
            queries=Launch(32, 16, depth, columns, warps=4, stages=2),
            items=Launch(16, 32, depth, columns, warps=4, stages=2),
            negatives=Launch(32, 16, depth, columns, warps=4, stages=2),
            negative_items=Launch(16, 32, depth, columns, warps=4, stages=2),
        )
    if dtype == "tf32x3":
        # On tensor cores, each operand in two parts, whose registers suffice for 16 vectors at once: with 32 it
        # spills 64 bytes on sm_80, and eight warps on 64 rows do a tile's work twice.
        depth, columns = min(columns, 32), min(columns, 128)
        queries = Launch(64, 16, depth, columns, 4, 2, precision=dtype)
        items = replace(queries, rows=16, items=64)
        return Knobs(queries, items, negatives=replace(queries, columns=min(columns, 64)), negative_items=items)
    if columns > 128:
        # In chunks both operands of the cosines are loaded again, which takes registers from the tiles.
        stages = STAGES if backend == "cuda" else 2
        queries = Launch(64, 32, 64, 128, 4, stages)
        items = replace(queries, rows=32, items=64)
        return Knobs(queries, items, negatives=replace(queries, columns=64), negative_items=items)
    if backend == "hip":
        items = Launch(32, 64, columns, columns, 8, 2)
        return Knobs(Launch(64, 64, columns, columns, 4, 2), items, Launch(32, 64, columns, columns, 4, 2), items)
    # What compile_check counts best: 64 rows are one tensor-core instruction's on sm_90, and 64 items leave most warps
    # a multiprocessor (168 registers a thread).
    whole = Launch(64, 64, columns, columns, 4, STAGES)
    return Knobs(
        queries=whole,
        items=whole,
        # Two sums of 64 vectors are 128 registers a thread: with 64 items at once it spills 136 bytes on sm_80, as the
        # items' pass does 60 on sm_90. Eight warps on 64 rows would do all the work of a tile twice on sm_90.
        negatives=Launch(64, 32, columns, columns, 4, STAGES),
        negative_items=Launch(32, 64, columns, columns, 4, STAGES),
    )


def splits(n_rows: int, n_items: int, launch: Launch) -> tuple[int, int]:
    """(splits of the catalog, tiles a split) for a pass over rows x items; every split has a tile."""
    row_blocks = -(-n_rows // launch.rows)
    tiles = -(-n_items // launch.items)
    n_splits = min(max(PROGRAMS // row_blocks, 1), MAX_SPLITS, tiles)
    tiles_a_split = -(-tiles // n_splits)
    return -(-tiles // tiles_a_split), tiles_a_split


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def width(d: int) -> int:
    """Columns of a unit vector in memory: every row begins at a multiple of 16 bytes, so that copies are that wide."""
    return -(-d // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def row_tile(d: int) -> dict[str, int]:
    """Compile-time sizes of a kernel that holds whole rows of d in registers, a few thousand entries a program."""
    columns = power_of_two(width(d))
    return {"ROWS": max(1, 2048 // columns), "COLUMNS": columns}


def split_tile(d: int) -> dict[str, int]:
    """Compile-time sizes of the kernel that adds up a row's partial gradients, as many at once as registers hold."""
    columns = power_of_two(d)
    return {"COLUMNS": columns, "SPLITS": max(1, min(MAX_SPLITS, 2048 // columns))}
