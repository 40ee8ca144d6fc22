"""What each case of the GPU bench may take."""

from __future__ import annotations

# Seconds that a case may take before what is left of it is skipped, as in cases.BY_NAME, the news first. A measurement
# that has begun ends, at 4 s at most behind its warm-ups; compiling is not cut off.
BUDGETS = {
    "kernels": 150, "limits": 10, "loss": 20, "rooflines": 20, "encoder": 20, "adam": 10, "step": 20, "breakdown": 30,
    "epoch": 60, "peers": 90, "tiles": 60, "faiss": 40, "serving": 60,
}  # fmt: skip
