"""The cases of the export bench: every variant of the graphs against the native engine, and ONNX Runtime's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from bench.harness.agreement import vectors_error
from bench.harness.comparison import Case, Contender, Plan
from bench.harness.eager_faiss import encode as eager_encode
from bench.harness.eager_faiss import load_model, true_queries
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS, VARIANTS
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.export.graph_ranker import Feeds, Run, open_graph, padded
from mtaw_fast.export.parity import TOLERANCE
from mtaw_fast.ranking.encoders import NativeEncoder, make_encoder
from mtaw_fast.ranking.encoders.onnx_runtime import session_options
from mtaw_fast.recommender import Recommender

K = 20
_SESSIONS = 512
_CHECKED = 8
_TOLERANCES = {"fp16": 5e-3, "int8": 0.2}  # on the coordinates of a unit vector; all others are float32
_OVERLAPS = {"onnx-fp16": 0.95, "onnx-int8": 0.7}  # of the true top 20, on average: below it a variant is broken

SetOption = Callable[[Any], None]


@dataclass(frozen=True, eq=False)
class ExportCases:
    """One session a call, of internal ids drawn by popularity, over a bundle with exported graphs."""

    folder: Path
    plan: Plan

    @cached_property
    def bundle(self) -> Bundle:
        """The bundle. Raises UsageError if it has no graphs."""
        bundle = Bundle.load(self.folder)
        if bundle.file("encoder") is None:
            raise UsageError(f"{self.folder} has no graphs; add them with 'mtaw-fast export {self.folder} --onnx'")
        return bundle

    def encode(self, clicks: int) -> Case:
        """Compare ways to turn a session of internal ids into its unit query."""
        bundle, sessions = self.bundle, self._sessions(clicks)
        native, onnx = NativeEncoder(bundle.config, bundle.weights), make_encoder("onnx", bundle)
        model = load_model(bundle.config, bundle.weights).eval()
        graphs = {variant: open_graph(path) for variant, path in self._paths("encoder").items()}
        feeds = [dict(zip(("ids", "lengths"), padded(batch), strict=True)) for batch in sessions]
        peers = [
            Contender("onnx-encoder", lambda call: onnx.encode(sessions[call % _SESSIONS])),
            Contender("torch-eager", lambda call: eager_encode(model, sessions[call % _SESSIONS]).numpy()),
        ]
        for variant, graph in graphs.items():
            peers.append(Contender(f"onnx-{variant}", _runner(graph, feeds, 0)))

        def wrong(contender: Contender) -> str | None:
            tolerance = _TOLERANCES.get(contender.name.removeprefix("onnx-"), 3e-6)
            for call in range(_CHECKED):
                truth = true_queries(bundle.config, bundle.weights, sessions[call])
                error = vectors_error(contender.run(call).reshape(1, -1), truth, tolerance)
                if error:
                    return error
            return None

        ours = Contender("ours", lambda call: native.encode(sessions[call % _SESSIONS]))
        return Case("encode", self._params(clicks), "latency_us", ours, peers, wrong, self.plan)

    def recommend(self, clicks: int) -> Case:
        """Compare ways to turn external ids into the top 20: the whole path."""
        rec = Recommender.load(self.folder, encoder="native", index="native")
        moment = None if self.bundle.model.trends is None else int(self.bundle.model.trends.clock[-1])
        requests = [self.bundle.ids.external(session.items) for session in self._sessions(clicks)]
        graphs = {variant: open_graph(path) for variant, path in self._paths("recommender").items()}
        feeds = [Feeds(self.bundle).of([request], K, now=moment) for request in requests]
        peers = [Contender(f"onnx-{variant}", _ranker(graph, feeds)) for variant, graph in graphs.items()]

        def wrong(contender: Contender) -> str | None:
            overlap = []
            for call in range(_CHECKED):
                expected = rec.recommend(requests[call], K, at=moment)
                items, scores = contender.run(call)
                overlap.append(len(set(items) & set(expected.items)) / len(expected))
                error = float(np.abs(scores - expected.scores).max())
                if contender.name not in _OVERLAPS and error > TOLERANCE * max(1, np.abs(expected.scores).max()):
                    return f"a score is off by {error:.2g}"
            min_overlap = _OVERLAPS.get(contender.name, 0.9)
            return (
                None
                if np.mean(overlap) >= min_overlap
                else f"top-20 overlap {np.mean(overlap):.2f}, under {min_overlap}"
            )

        def ask(call: int) -> tuple[list[Any], np.ndarray]:
            answer = rec.recommend(requests[call % len(requests)], K, at=moment)
            return answer.items, answer.scores

        ours = Contender("ours", ask)
        return Case("recommend", self._params(clicks), "latency_us", ours, peers, wrong, self.plan)

    def session_options(self, clicks: int) -> Case:
        """Compare the encoder `onnx` (ours) with the same graph under one other option each."""
        bundle, sessions = self.bundle, self._sessions(clicks)
        onnx = make_encoder("onnx", bundle)
        feeds = [dict(zip(("ids", "lengths"), padded(batch), strict=True)) for batch in sessions]
        path = self._paths("encoder")["float32"]
        peers: list[Contender] = []
        for name, change in _OPTIONS.items():
            options = session_options()
            change(options)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            encoder = type(onnx)(name, session, bundle.config, bundle.weights["item_embedding"])  # type: ignore[call-arg]
            peers.append(Contender(name, lambda call, encoder=encoder: encoder.encode(sessions[call % _SESSIONS])))
        # These two leave out what the encoder adds (checks, cutting, splitting).
        peers.append(Contender("run() alone", _runner(open_graph(path), feeds, 0)))
        peers.append(Contender("IOBinding alone", _bound(path, feeds, bundle.config.model.embedding_dim)))
        expected = onnx.encode(sessions[0])

        def wrong(contender: Contender) -> str | None:
            return vectors_error(np.atleast_2d(contender.run(0)), expected, 3e-6)

        ours = Contender("ours", lambda call: onnx.encode(sessions[call % _SESSIONS]))
        return Case("session-options", self._params(clicks), "latency_us", ours, peers, wrong, self.plan)

    def sizes(self) -> list[str]:
        """Return the bytes of every graph, a line for each variant."""
        lines = []
        for variant in VARIANTS:
            sizes = [
                f"{graph} {paths[variant].stat().st_size / 1e6:.2f} MB"
                for graph in ("encoder", "recommender")
                if variant in (paths := self._paths(graph))
            ]
            lines += [f"{variant}: {', '.join(sizes)}"] if sizes else []
        return lines

    def _paths(self, graph: str) -> Mapping[str, Path]:
        files = {variant: self.bundle.file(GRAPH_PARTS[graph, variant]) for variant in VARIANTS}
        return {variant: path for variant, path in files.items() if path is not None}

    def _sessions(self, clicks: int) -> list[Sessions]:
        weight = self.bundle.popularity + 1.0
        items = np.random.default_rng(0).choice(self.bundle.n_items, (_SESSIONS, clicks), p=weight / weight.sum())
        return [Sessions.from_lists([row]) for row in items]

    def _params(self, clicks: int) -> dict[str, Any]:
        return {
            "catalog": self.bundle.n_items,
            "d": self.bundle.config.model.embedding_dim,
            "k": K,
            "clicks": clicks,
            "threads": 1,
        }


def _runner(graph: Run, feeds: list[dict[str, np.ndarray]], output: int) -> Callable[[int], Any]:
    """Return one run of a graph a call: its output number `output`."""
    return lambda call: graph(feeds[call % len(feeds)])[output]


def _ranker(graph: Run, feeds: list[dict[str, np.ndarray]]) -> Callable[[int], tuple[list[Any], np.ndarray]]:
    """Return one ranking a call: (items, scores)."""

    def run(call: int) -> tuple[list[Any], np.ndarray]:
        items, scores = graph(feeds[call % len(feeds)])
        return items[0].tolist(), scores[0]

    return run


def _bound(path: Path, feeds: list[dict[str, np.ndarray]], d: int) -> Callable[[int], Any]:
    """Return one run of the encoder graph a call, through one IOBinding."""
    session = onnxruntime.InferenceSession(path, session_options(), providers=["CPUExecutionProvider"])
    query, binding = np.empty((1, d), dtype=np.float32), session.io_binding()
    binding.bind_ortvalue_output("query", onnxruntime.OrtValue.ortvalue_from_numpy(query))

    def run(call: int) -> Any:
        for name, value in feeds[call % len(feeds)].items():
            binding.bind_cpu_input(name, value)
        session.run_with_iobinding(binding)
        return query

    return run


def _set(name: str, value: Any) -> SetOption:
    return lambda options: setattr(options, name, value)


_LEVEL = onnxruntime.GraphOptimizationLevel
_OPTIONS: Mapping[str, SetOption] = {
    "2 threads": _set("intra_op_num_threads", 2),
    "arena": _set("enable_cpu_mem_arena", True),
    "no memory patterns": _set("enable_mem_pattern", False),
    "graph level extended": _set("graph_optimization_level", _LEVEL.ORT_ENABLE_EXTENDED),
    "graph level basic": _set("graph_optimization_level", _LEVEL.ORT_ENABLE_BASIC),
    "graph level off": _set("graph_optimization_level", _LEVEL.ORT_DISABLE_ALL),
}
