"""Kernels and training step on a GPU; or, dry, at toy size through Triton's interpreter."""
