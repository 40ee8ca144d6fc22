"""The exported graph of the whole, in ONNX Runtime: what a service without us would ask."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.harness.comparison import Contender
from mtaw_fast.bundle import Bundle
from mtaw_fast.export.graph_ranker import Feeds, open_graph
from mtaw_fast.export.onnx_build import Builder

NAME = "onnx-graph"
TIE = 5e-5  # twice the largest error of a float32 logit that was met
_EXTERNAL_OVER = 2_000_000_000


def graph_contender(bundle: Bundle, requests: Sequence[Sequence[Sequence[Any]]], k: int, threads: int) -> Contender:
    """The float32 graph of a bundle, made here; a call ranks a batch of lists of external ids."""
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-graph-") as folder:
        made = Builder(bundle, Path(folder), _EXTERNAL_OVER).build("recommender", "float32")
        run = open_graph(made.model, threads)
    feeds = [Feeds(bundle).of(request, k) for request in requests]

    def rank(call: int) -> list[Any]:
        items, scores = run(feeds[call % len(feeds)])
        return list(zip(items.tolist(), scores, strict=True))

    return Contender(NAME, rank)
