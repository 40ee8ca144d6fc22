"""The time budget of each case of the GPU bench."""

from __future__ import annotations

# Seconds of a case before the rest of it is skipped, in the order of cases.BY_NAME, the most informative first. A
# measurement that has started ends, at most 4 s after its warm-ups; compiling is not interrupted.
BUDGETS = {
    "kernels": 150, "limits": 10, "loss": 20, "rooflines": 20, "encoder": 20, "adam": 10, "step": 20, "breakdown": 30,
    "epoch": 60, "peers": 90, "tiles": 60, "faiss": 40, "serving": 60,
}  # fmt: skip
