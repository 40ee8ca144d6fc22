"""Triton functions that the kernels of several ops share."""
