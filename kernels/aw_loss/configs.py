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
    registers; d beyond it goes in chunks). columns: how many columns of the vectors one program sums. warps, stages:
    as Triton has them. second, third: further columns of both, where vectors are taken in pieces instead of padded to a
    power of two. tma: whether the tiles of the loop come by a tensor map (sm_90 and later). persistent: whether as many
    programs as the GPU holds at once go through all the work. precision: PRECISION of float32 products, as in `dot`.
    """

    rows: int
    items: int
    depth: int
    columns: int
    warps: int
    stages: int
    second: int = 0
    third: int = 0
    tma: bool = False
    persistent: bool = False
    precision: str = "ieee"

    @property
    def held(self) -> int:
        """Columns of the vectors that one program holds, all pieces together."""
        return self.columns + self.second + self.third

    def cosines(self, width: int) -> dict[str, int | str]:
        """Return the compile-time arguments of a kernel that sums no vectors. width: of the unit vectors in memory."""
        return {
            "WIDTH": width, "ROWS": self.rows, "ITEMS": self.items, "DEPTH": self.depth, "PRECISION": self.precision,
        }  # fmt: skip

    def constants(self, width: int) -> dict[str, int | str]:
        """Return the compile-time arguments of a kernel that sums vectors. width: of the unit vectors in memory."""
        return {**self.cosines(width), "COLUMNS": self.columns}

    def variant(self) -> dict[str, int | bool]:
        """Return the compile-time arguments that select a kernel's variant."""
        return {"SECOND": self.second, "THIRD": self.third, "TMA": self.tma, "PERSISTENT": self.persistent}


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


@dataclass(frozen=True, slots=True)
class Tile:
    """A line of the tables below; pieces: whether vectors are taken in pieces. The rest: see `Launch`."""

    rows: int
    items: int
    warps: int
    pieces: bool = False
    tma: bool = False
    persistent: bool = False

    def launch(self, d: int, columns: int) -> Launch:
        """The launch for vectors of d in `columns` registers."""
        first, second, third = pieces_of(width(d)) if self.pieces else (columns, 0, 0)
        return Launch(self.rows, self.items, first, first, self.warps, STAGES, second, third, self.tma, self.persistent)


# Tiles of whole vectors on NVIDIA's GPUs in bf16 and fp16, by 'rows x items x warps' of each pass. All are compiled and
# checked against the same bounds by compile_check; `python -m bench.gpu --only tiles` times them. 64 rows are one
# tensor-core instruction's on sm_90, and the other side is the instruction's n. A pass reads its other side from L2
# once a program: tiles of 128 halve that, and hold one block of eight warps a multiprocessor where the small ones hold
# two or three of four. In pieces d = 100 takes 64 + 32 + 16 = 112 columns instead of 128: an eighth of the
# multiply-adds less, for more and narrower instructions. A tensor map takes addresses and masks out of the loop;
# persistent programs start once. No line has been measured on a GPU.
QUERIES_TILES = {
    "64x64x4": Tile(64, 64, 4),
    "64x128x4": Tile(64, 128, 4),
    "128x64x8": Tile(128, 64, 8),
    "128x128x8": Tile(128, 128, 8),
    "64x64x4 pieces": Tile(64, 64, 4, pieces=True),
    "64x64x4 tma": Tile(64, 64, 4, tma=True),
    "64x64x4 persistent": Tile(64, 64, 4, persistent=True),
}
ITEMS_TILES = {
    "32x64x4": Tile(32, 64, 4),
    "64x64x4": Tile(64, 64, 4),
    "32x128x8": Tile(32, 128, 8),
    "64x128x8": Tile(64, 128, 8),
    "64x64x4 pieces": Tile(64, 64, 4, pieces=True),
    "64x64x4 tma": Tile(64, 64, 4, tma=True),
    "32x128x8 persistent": Tile(32, 128, 8, persistent=True),  # 64x64x4 spills 128 bytes on sm_100
}
# Which of them runs. Not measured on a GPU yet: the forward pass takes the tile that leaves most warps a multiprocessor
# (168 registers a thread on sm_90), the backward pass the smallest whose instructions are 64 wide on both sides.
CHOSEN = ("64x64x4", "64x64x4")
STAGES = 3  # of cuda; AMD has 64 KB of shared memory a block and no use for a third
TMA_ARCH = 90  # the first compute capability with tensor maps


def knobs(d: int, dtype: str, backend: str, tiles: tuple[str, str] | None = None) -> Knobs:
    """Knobs for vectors of d and a dtype of the matrix products ('fp32', 'tf32x3', 'bf16', 'fp16') on 'cuda' or 'hip'.

    tiles: names in QUERIES_TILES and ITEMS_TILES, CHOSEN by default; they count where several are to be had (cuda,
    two-byte products, d at most 128).
    """
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
    tiles = tiles or CHOSEN
    return Knobs(
        queries=QUERIES_TILES[tiles[0]].launch(d, columns),
        items=ITEMS_TILES[tiles[1]].launch(d, columns),
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


def pieces_of(width: int) -> tuple[int, int, int]:
    """Powers of two, each at least 16, whose sum is the least multiple of 16 that holds a width of up to 128."""
    rest, pieces = -(-width // 16) * 16, []
    for size in (128, 64, 32, 16):
        if rest >= size:
            pieces.append(size)
            rest -= size
    first, second, third = (*pieces, 0, 0)[:3]
    return first, second, third


def row_tile(d: int) -> dict[str, int]:
    """Compile-time sizes of a kernel that holds whole rows of d in registers, a few thousand entries a program."""
    columns = power_of_two(width(d))
    return {"ROWS": max(1, 2048 // columns), "COLUMNS": columns}


def split_tile(d: int) -> dict[str, int]:
    """Compile-time sizes of the kernel that adds up a row's partial gradients, as many at once as registers hold."""
    columns = power_of_two(d)
    return {"COLUMNS": columns, "SPLITS": max(1, min(MAX_SPLITS, 2048 // columns))}
