"""What every bench uses: interleaved timing, checks, floors, machine and report, the eager baseline, workloads."""
