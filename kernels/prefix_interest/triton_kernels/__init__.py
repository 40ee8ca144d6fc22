"""The Triton kernels of prefix_interest; `fused.py` launches them.

Names: M slots a tile, D = d padded to a power of two, PART columns of a tile that a matrix product takes at once,
DTYPE the compute dtype. A slot is a place in a tile (`tiles.py`).
"""
