"""Triton kernels of adam_step; imported only where Triton is."""
