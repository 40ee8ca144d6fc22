"""All benches: what each measures, what it needs, and how the suite runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

BUNDLE, FOLDER = "{bundle}", "{folder}"  # placeholders in options for what the suite makes


@dataclass(frozen=True, slots=True)
class Bench:
    """A bench of the suite; `python -m bench.NAME` runs it.

    line: what it measures. quick: the options of its smallest case. full: those of all cases. needs: packages without
    which it is skipped. gpu: whether it is skipped without a GPU.
    """

    name: str
    line: str
    quick: Sequence[str]
    full: Sequence[str] = ()
    needs: Sequence[str] = ()
    gpu: bool = False

    def options(self, quick: bool) -> Sequence[str]:
        """Return its options, with placeholders for what the suite makes."""
        return self.quick if quick else self.full

    def missing(self) -> str | None:
        """Return which package it needs and how to get it, or None."""
        absent = [name for name in self.needs if find_spec(name) is None]
        return f"needs the package '{absent[0]}': pip install -e '.[dev]' brings it" if absent else None

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None."""
        missing = self.missing()
        if missing is None and self.gpu:
            import torch

            if not torch.cuda.is_available():
                return "needs a GPU, and PyTorch sees none"
        return missing


@dataclass(frozen=True, slots=True)
class ByHand:
    """A command outside the suite: it needs data, or is a case apart. `python -m bench.NAME --help` says more."""

    name: str
    line: str


_PEERS = ("torch", "faiss", "rich", "threadpoolctl")

BENCHES = (
    Bench("retrieval", "the exact and the approximate index against FAISS; recall against latency of all libraries",
          ("--quick",), ("--plot", f"{FOLDER}/recall.png"), ("faiss", "rich", "threadpoolctl")),
    Bench("throughput.encoder", "a session's vector by its length, whole and click by click, against PyTorch and numpy",
          ("--quick",), needs=_PEERS),
    Bench("throughput", "encode, retrieve, memory, recommend and a training step against PyTorch + FAISS",
          ("--quick",), needs=(*_PEERS, "onnx", "onnxruntime")),
    Bench("rules", "rankings under rules against plain ones: filters of every selectivity, five rules",
          ("--quick",), needs=("rich", "threadpoolctl")),
    Bench("training", "the loss, forward and backward, against PyTorch's own ways: time and peak memory",
          ("--quick",), needs=("torch", "rich", "threadpoolctl")),
    Bench("prepare", "from a click log to a data set: rows a second and peak memory",
          ("--quick", "--rows", "200000"), needs=("polars", "rich")),
    Bench("prepare.memory_build", "the memory's tables: building, updating, size and peak memory",
          ("--quick", "--clicks", "200000"), needs=("rich",)),
    Bench("scaling", "how time and memory grow with catalog, log, session, batch and threads, with the fitted powers",
          ("--quick", "--only", "catalog-scan,session-encode"),
          needs=("torch", "threadpoolctl", "polars", "pyarrow", "faiss")),
    Bench("serving", "the HTTP service under an open-loop load: latency from the due time",
          ("--quick", "--items", "10000", "--rates", "200", "--seconds", "5", "--ramp", "1"),
          ("--curve",), ("uvicorn", "psutil")),
    Bench("live", "learning while serving: what it adds to a ranking, what an event costs, that none is lost",
          ("--quick", "--cases", "event", "--events", "5000"), needs=("uvicorn", "psutil", "rich", "threadpoolctl")),
    Bench("prepare.export", "the exported ONNX graphs: sizes and latencies against the native path and PyTorch",
          ("--quick", "--bundle", BUNDLE), ("--bundle", BUNDLE), (*_PEERS, "onnx", "onnxruntime", "polars")),
    Bench("scoring", "`mtaw-fast score`, a block read, ranked and written, against the bare batch engine",
          ("--quick", BUNDLE, "--sessions", "512"), (BUNDLE,), ("pyarrow", "rich", "torch", "polars")),
    Bench("quality", "presets trained and scored through the path that serves, on a small generated log",
          ("--quick", "--preset", "paper"), ("--quick",), ("torch", "rich", "threadpoolctl")),
    Bench("peers", "other systems and ours: Item-KNN on a small generated log; the trained ones need --data",
          ("--quick",), ("--quick",), ("torch", "threadpoolctl")),
    Bench("retrieval.sharded", "an index in shards on Ray against one index",
          ("--quick", "--items", "100000"), ("--quick",), ("ray", "psutil", "rich", "threadpoolctl")),
    Bench("serving.item_table", "the item table: size, load time, and from a change to the answers of all workers",
          ("--quick",), needs=("uvicorn", "psutil")),
    Bench("experiment", "experiments read every day: false alarms and power; drift of a log; cost of feedback",
          ("--quick", "--bundle", BUNDLE), ("--bundle", BUNDLE), ("rich", "uvicorn")),
    Bench("serving.replicas", "a request through Ray Serve's proxy against `mtaw-fast serve`",
          ("--quick", "--items", "10000"), needs=("ray", "psutil", "rich", "uvicorn")),
    Bench("gpu", "on a GPU: kernels with their limits, training step and epoch, peers, serving",
          ("--only", "loss"), needs=("torch", "triton"), gpu=True),
)  # fmt: skip

BY_HAND = (
    ByHand("clients [--bundle B]", "a call, a start and the size of Python, C, Go, Node.js and ONNX Runtime"),
    ByHand("quality --data DIR", "the presets on the public sets; its records stay in docs/results/quality.jsonl"),
    ByHand("peers --data DIR", "published systems trained on the public sets; records: docs/results/peers.jsonl"),
    ByHand("large_log FOLDER", "a log of OTTO's shape, from its JSON lines to a bundle: processor time and memory"),
    ByHand("quality.frozen LOG", "what times are worth to a ranker by the age of its tables, learning and not"),
    ByHand("quality.types", "what the types of clicks are worth to a ranker, where they steer and where not"),
    ByHand("quality.gamma_curve", "the paper's figure 2, drawn from the records of bench.quality"),
    ByHand("quality.evaluate_cost --bundle B --dataset D", "evaluate with all metrics against ranks, P@K and MRR@K"),
    ByHand("quality.ablations --data DIR", "what the parts of MTAW and of `full` are worth: P@20, MRR@20 without each"),
    ByHand("quality.page_curve BUNDLE DATASET", "bundles for a page: P@20 on validation against the bytes"),
    ByHand("serving --bare", "a bare ASGI app under the same load: the floor of a service in Python"),
    ByHand("serving.cost [--bundle B]", "processor time of a request in a worker's own code, without sockets"),
    ByHand("prepare.partitions LOG", "a click log in partitions: what each step costs"),
)


def filled(options: Sequence[str], bundle: Path | None, folder: Path) -> list[str]:
    """Return the options with the placeholders filled in."""
    return [text.replace(BUNDLE, str(bundle)).replace(FOLDER, str(folder)) for text in options]
