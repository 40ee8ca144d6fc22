"""The Triton kernels of prefix_interest; `fused.py` launches them.

Names: M slots a tile, D = d padded to a power of two, PART columns that a matrix product over d takes at once,
DTYPE the compute dtype. A slot is a position in a tile (`tiles.py`).

The left operand of a product over d is always read from memory, part by part: a tile in registers cannot be cut
into columns, and a product over all 128 at once holds both operands in registers whole, which spills in
float32. What a program computes and then multiplies it writes first (all of it is kept for the backward pass or for
the weights' gradients anyway), with `tl.debug_barrier()` between: the barrier orders the memory of a block's threads.
"""
