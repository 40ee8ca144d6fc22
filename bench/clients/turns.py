"""As turns.c, in Python: `python -m bench.clients.turns BUNDLE AT SESSIONS`; with ONNX_GRAPH set by that graph."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

K = 20


def package(folder: str, at: int) -> Callable[[Sequence[Any]], list[Any]]:
    """Return how the package answers a session: its items."""
    from mtaw_fast.recommender import Recommender

    rec = Recommender.load(folder, encoder="native", index="native")
    return lambda session: rec.recommend(session, K, at=at).items


def graph(path: str, at: int) -> Callable[[Sequence[Any]], list[Any]]:
    """Return how ONNX Runtime answers a session by the graph of a bundle, on one thread."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    run = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {argument.name: argument for argument in run.get_inputs()}
    ids = object if "string" in inputs["session"].type else np.int64
    fixed = {
        "k": np.array([K]), "exclude": np.empty(0, ids), "allow": np.empty(0, ids), "use_allow": np.array([False]),
        "exclude_seen": np.array([False]),
    }  # fmt: skip
    if "now" in inputs:
        fixed["now"] = np.array([at])

    def items(session: Sequence[Any]) -> list[Any]:
        lengths = np.array([len(session)], np.int32)
        result = run.run(["items"], {**fixed, "session": np.array([session], ids), "lengths": lengths})[0]
        return list(result[0])

    return items


def main() -> None:
    """Take turns until the input ends."""
    folder, at, path = sys.argv[1:4]
    onnx = os.environ.get("ONNX_GRAPH")
    text = os.environ.get("TEXT_IDS") == "1"
    items = package(folder, int(at)) if onnx is None else graph(onnx, int(at))
    lines = Path(path).read_text().splitlines()
    sessions = [line.split(" ") if text else list(map(int, line.split(" "))) for line in lines]
    print("ready", flush=True)
    for line in sys.stdin:
        command, *numbers = line.split()
        begin = int(numbers[0])
        if command == "answer":
            print(*items(sessions[begin]), flush=True)
            continue
        times = []
        for call in range(begin, begin + int(numbers[1])):
            session = sessions[call % len(sessions)]
            start = time.perf_counter_ns()
            items(session)
            times.append(time.perf_counter_ns() - start)
        print(*times, flush=True)


if __name__ == "__main__":
    main()
