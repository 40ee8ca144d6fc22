"""The compute kernels on their own, importable as `mtaw_fast.kernels`."""
