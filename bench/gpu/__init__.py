"""The GPU's kernels and training step on the GPU that is there; or, dry, at toy size through Triton's interpreter."""
