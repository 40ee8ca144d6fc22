"""The cases of the serving stages: what is timed, how it is checked, and its limit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import eager_faiss
from bench.harness.agreement import TIE, ranking_error, vectors_error
from bench.harness.comparison import Case, Contender, Floor, Plan
from bench.harness.eager_faiss import EagerFaiss, true_logits, true_queries
from bench.harness.floors import flop_floor, scan_floor, sum_of
from bench.harness.workload import Workload
from bench.throughput import rates
from bench.throughput.memory_truth import RANKER_TOLERANCE, memory_floor, true_memory
from bench.throughput.rates import Load
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.export.graph_ranker import Feeds, open_graph
from mtaw_fast.export.onnx_build import Builder
from mtaw_fast.kernels.native.memory_query import Dense
from mtaw_fast.kernels.native.scan import whole
from mtaw_fast.recommender import Recommender

_CHECKED_SCORES = 1 << 24  # true scores that a check computes, at most: sessions x catalog
_MAX_CHECKED = 64
_UNIT_TOLERANCE = 2e-6  # float32 against float64, on the coordinates of a unit vector
_RATE_SESSIONS = 1000
_GRAPH = "onnx-graph"
_GRAPH_TIE = 5e-5  # twice the largest error seen of a float32 logit
_EXTERNAL_OVER = 2_000_000_000

Ranking = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class ServingCases:
    """encode, retrieve and recommend at one batch size, over one workload, on one thread."""

    workload: Workload
    ours: Recommender
    theirs: EagerFaiss
    batch: int
    k: int
    plan: Plan

    @cached_property
    def batches(self) -> list[Sessions]:
        """The sessions in packed batches, which contenders use in turn."""
        sessions = self.workload.serve
        begins = range(0, len(sessions) - self.batch + 1, self.batch) if len(sessions) >= self.batch else range(1)
        return [sessions.slice(begin, begin + self.batch) for begin in begins]

    @cached_property
    def checked(self) -> list[int]:
        """Which batches a check looks at."""
        rows = min(_MAX_CHECKED, max(4, _CHECKED_SCORES // self.workload.bundle.n_items))
        return list(range(min(len(self.batches), max(1, rows // self.batch))))

    @property
    def _params(self) -> dict[str, Any]:
        return {**self.workload.params, "k": self.k, "batch": len(self.batches[0]), "threads": 1}

    def encode(self) -> Case:
        """Compare encoding sessions of internal ids to unit queries."""
        batches, ours, theirs = self.batches, self.ours.encoder, self.theirs
        bundle = self.workload.bundle

        def check(contender: Contender) -> str | None:
            for number in self.checked:
                truth = true_queries(bundle.config, bundle.weights, batches[number])
                error = vectors_error(contender.run(number), truth, _UNIT_TOLERANCE)
                if error:
                    return error
            return None

        return Case(
            "encode",
            {**self._params, "encoder": ours.name},
            "latency_us",
            Contender("ours", lambda call: ours.encode(batches[call % len(batches)])),
            [Contender(eager_faiss.NAME, lambda call: theirs.encode(batches[call % len(batches)]))],
            check,
            self.plan,
            self._encode_floor,
        )

    def retrieve(self) -> Case:
        """Compare searching unit queries for ids and logits."""
        bundle, index, theirs, k = self.workload.bundle, self.ours.index, self.theirs, self.k
        scale = bundle.config.model.scale
        queries = [self.theirs.encode(batch) for batch in self.batches]

        def truth(number: int, rows: int) -> np.ndarray:
            return true_logits(bundle.config, bundle.weights, queries[number][:rows])

        return Case(
            "retrieve",
            {**self._params, "index": index.name},
            "latency_us",
            Contender("ours", lambda call: index.search(queries[call % len(queries)], k, scale=scale)),
            [Contender(eager_faiss.NAME, lambda call: theirs.search(queries[call % len(queries)], k))],
            lambda contender: self._ranking_error(contender, lambda output: output, truth, TIE),
            self.plan,
            self._retrieve_floor,
        )

    def memory(self) -> Case:
        """Time candidates, features and ranker of a bundle with a session memory; no baseline does the same."""
        bundle, index, batches = self.workload.bundle, self.ours.index, self.batches
        ranker = self.ours._pipeline.ranker
        memory, ranker_net = ranker.memory, ranker.ranker_net
        assert memory is not None
        assert ranker_net is not None
        queries = [self.ours.encoder.encode(batch) for batch in batches]
        arguments, width = [], max(self.k, min(memory.dense, bundle.n_items))
        for batch, vectors in zip(batches, queries, strict=True):
            ids, logits = index.search(vectors, width, scale=bundle.config.model.scale)
            dense = Dense(vectors, ids, logits, bundle.item_vectors, bundle.config.model.scale)
            begins, ends = batch.offsets[:-1].copy(), batch.offsets[1:].copy()
            arguments.append((np.ascontiguousarray(batch.items), begins, ends, self.k, dense))

        def truth(number: int, rows: int) -> np.ndarray:
            logits = true_logits(bundle.config, bundle.weights, queries[number][:rows])
            return true_memory(bundle, batches[number].slice(0, rows), logits)

        return Case(
            "memory",
            self._path_params,
            "latency_us",
            Contender("ours", lambda call: memory.rank(ranker_net, *arguments[call % len(arguments)])),
            [],
            lambda contender: self._ranking_error(contender, lambda output: output, truth, RANKER_TOLERANCE),
            self.plan,
            memory_floor(bundle, batches[0]),
        )

    def recommend(self) -> Case:
        """Compare the whole path: external ids to ranked external ids with logits."""
        bundle, ours, theirs, k = self.workload.bundle, self.ours, self.theirs, self.k
        requests = [[bundle.ids.external(clicks) for clicks in batch] for batch in self.batches]

        def run_ours(call: int) -> Any:
            request = requests[call % len(requests)]
            return [ours.recommend(request[0], k)] if len(request) == 1 else ours.recommend_batch(request, k)

        def truth(number: int, rows: int) -> np.ndarray:
            sessions = self.batches[number].slice(0, rows)
            return true_logits(bundle.config, bundle.weights, true_queries(bundle.config, bundle.weights, sessions))

        def remembered(number: int, rows: int) -> np.ndarray:
            return true_memory(bundle, self.batches[number].slice(0, rows), truth(number, rows))

        def check(contender: Contender) -> str | None:
            # The encoders' float32 error in the cosine, at the logits' scale.
            tie = _GRAPH_TIE if contender.name == _GRAPH else _UNIT_TOLERANCE * bundle.config.model.scale
            if bundle.memory is None or contender.name == eager_faiss.NAME:
                return self._ranking_error(contender, unpack, truth, tie)
            return self._ranking_error(contender, unpack, remembered, RANKER_TOLERANCE)

        def unpack(output: Any) -> Ranking:
            rows = [(row.items, row.scores) if hasattr(row, "items") else row for row in output]
            return np.stack([bundle.ids.lookup(items) for items, _ in rows]), np.stack([scores for _, scores in rows])

        return Case(
            "recommend",
            self._path_params,
            "latency_us",
            Contender("ours", run_ours),
            [
                Contender(eager_faiss.NAME, lambda call: theirs.recommend(requests[call % len(requests)], k)),
                graph_contender(bundle, requests, k),
            ],
            check,
            self.plan,
            sum_of(
                self._encode_floor,
                self._retrieve_floor,
                *([memory_floor(bundle, self.batches[0])] if bundle.memory else []),
            ),
        )

    def rates(self, workers: int, calls: int, plan: Plan) -> Iterator[Case]:
        """Yield bursts of `calls` on one thread, on several, and on as many processes; run each before the next."""
        sessions = self.workload.serve.slice(0, _RATE_SESSIONS)
        load = Load([self.workload.bundle.ids.external(clicks) for clicks in sessions], self.k, calls)
        for by, count in (("threads", 1), ("threads", workers), ("processes", workers)):
            expected = [load.run(self.ours, number) for number in range(count)]

            def check(contender: Contender, expected: Any = expected, name: str = f"{count} {by}") -> str | None:
                return None if contender.run(0) == expected else f"{name} give other answers than one"

            with rates.bursts(by, self.ours, load, count) as burst:
                params = {**self._path_params, "workers": count, "by": by, "calls": count * calls}
                ours = Contender("ours", lambda _, burst=burst: burst())
                yield Case("recommend-rate", params, "burst_ms", ours, [], check, plan)

    @property
    def _path_params(self) -> dict[str, Any]:
        """What a row says about the whole path."""
        return {**self._params, "encoder": self.ours.encoder.name, "index": self.ours.index.name}

    def _ranking_error(
        self,
        contender: Contender,
        unpack: Callable[[Any], Ranking],
        truth: Callable[[int, int], np.ndarray],
        tie: float,
    ) -> str | None:
        """Return what is wrong with the checked rankings, or None; truth(batch, rows): true scores float64[.., N]."""
        for number in self.checked:
            ids, scores = unpack(contender.run(number))
            rows = min(len(ids), max(4, _CHECKED_SCORES // self.workload.bundle.n_items), _MAX_CHECKED)
            error = ranking_error(ids[:rows], scores[:rows], truth(number, rows), tie)
            if error:
                return error
        return None

    @cached_property
    def _encode_floor(self) -> Floor:
        d, batch = self.workload.bundle.config.model.embedding_dim, self.batches[0]
        lengths = batch.lengths.astype(np.float64)
        # Per session of m clicks: W_q, W_1, W_2 of every click, W_q' of the last one, attention (scores and sum)
        # over t clicks for t = 1..m and once more over m.
        flop = (6 * lengths * d * d + 2 * d * d + 2 * lengths * (lengths + 1) * d + 4 * lengths * d).sum()
        return flop_floor(float(flop), "encoding the last click")

    @cached_property
    def _retrieve_floor(self) -> Floor:
        assert self.workload.bundle.scan is not None
        return scan_floor(whole(self.workload.bundle.scan)["blocks"])


def graph_contender(bundle: Bundle, requests: Sequence[Sequence[Sequence[Any]]], k: int) -> Contender:
    """Return the float32 ONNX graph of the whole path in ONNX Runtime, exported here; a call ranks external ids."""
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-graph-") as folder:
        graph = Builder(bundle, Path(folder), _EXTERNAL_OVER).build("recommender", "float32")
        run = open_graph(graph.model, 1)
    feeds = [Feeds(bundle).of(request, k) for request in requests]

    def rank(call: int) -> list[Any]:
        items, scores = run(feeds[call % len(feeds)])
        return list(zip(items.tolist(), scores, strict=True))

    return Contender(_GRAPH, rank)
