"""All benches: what each measures, what it needs, and how the suite runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench of the suite; `python -m bench.NAME` runs it.

    line: what it measures. quick, full: the options of its smallest case, and of all cases. needs: packages without
    which it is skipped. gpu: whether it is skipped without a GPU.
    """

    name: str
    line: str
    quick: Sequence[str] = ("--quick",)
    full: Sequence[str] = ()
    needs: Sequence[str] = ()
    gpu: bool = False

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None."""
        absent = [name for name in self.needs if find_spec(name) is None]
        if absent:
            return f"needs the package '{absent[0]}': pip install -e '.[dev]' brings it"
        if self.gpu:
            import torch

            return None if torch.cuda.is_available() else "needs a GPU, and PyTorch sees none"
        return None


_TIMES = ("rich", "threadpoolctl")
_PEERS = ("torch", "faiss", *_TIMES)

BENCHES = (
    Bench("retrieval", "the exact and the approximate index against FAISS", needs=("faiss", *_TIMES)),
    Bench("throughput.encoder", "a session's vector by its length, whole and click by click, against PyTorch and numpy",
          needs=_PEERS),
    Bench("throughput", "encode, retrieve, memory and recommend, against PyTorch + FAISS",
          needs=(*_PEERS, "onnx", "onnxruntime")),
    Bench("rules", "rankings under rules against plain ones: filters of every selectivity, five rules", needs=_TIMES),
    Bench("training", "the loss, forward and backward, against PyTorch's own ways: time and peak memory",
          needs=("torch", *_TIMES)),
    Bench("scaling", "how time and memory grow with catalog, log, session, batch and threads, with the fitted powers",
          ("--quick", "--only", "catalog-scan,session-encode"), needs=(*_PEERS, "polars", "pyarrow")),
    Bench("serving", "the HTTP service under an open-loop load: latency from the due time",
          ("--quick", "--items", "10000", "--rates", "200", "--seconds", "5"),
          ("--curve",), ("uvicorn", "psutil", "rich")),
    Bench("live", "learning while serving: what an event costs a worker, in processor time and in memory",
          ("--quick", "--cases", "event", "--events", "5000"), needs=_TIMES),
    Bench("quality", "presets trained and scored through the path that serves, on a small generated log",
          ("--quick", "--preset", "paper"), ("--quick",), ("torch", *_TIMES)),
    Bench("peers", "other systems and ours: Item-KNN on a small generated log; the trained ones need --data",
          full=("--quick",), needs=("torch", "threadpoolctl")),
    Bench("experiment", "experiments read every day: false alarms, power; estimates of other bundles; drift"),
    Bench("gpu", "on a GPU: kernels with their limits, training step and epoch, peers, serving",
          ("--only", "loss"), needs=("torch", "triton"), gpu=True),
)  # fmt: skip

# Commands outside the suite: they need data, or are a case apart.
BY_HAND = {
    "clients [--bundle B]": "a call, a start and the size of Python, C, Go, Node.js and ONNX Runtime",
    "quality --data DIR": "the presets on the public sets; its records stay in docs/results/quality.jsonl",
    "peers --data DIR": "published systems trained on the public sets; records: docs/results/peers.jsonl",
    "quality.readings --data DIR": "other readings of the paper's recipe, on validation: docs/results/readings.jsonl",
    "quality.rule_cost --data DIR": "what limits and diversity cost in hits, on the demo's log and two days of news",
    "quality.ablations --data DIR": "what the parts of MTAW and of `full` are worth: P@20, MRR@20 without each",
}
