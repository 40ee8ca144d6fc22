"""The graph `recommender`: from sessions of external ids to the ranking of the Recommender.

Axes: B sessions, L clicks of the longest, N items, d.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from mtaw_fast.export.onnx_graph import IR_VERSION, OPSET, GraphModel
from mtaw_fast.export.whole import selection
from mtaw_fast.export.whole.encoder import catalog_logits, encoded
from mtaw_fast.export.whole.features import Pool, scores
from mtaw_fast.export.whole.ids import ML_OPSET, Ids, compacted
from mtaw_fast.export.whole.moment import Moment, TrendArrays, moment
from mtaw_fast.export.whole.nodes import BOOL, FLOAT32, INT32, INT64, TEXT, Graph, Value
from mtaw_fast.export.whole.own import own_items
from mtaw_fast.export.whole.tables import Memory
from mtaw_fast.export.whole.trending import Trending
from mtaw_fast.kernels.native.memory_query import QuerySettings
from mtaw_fast.memory.constants import MAX_CLICKS
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.catalog import Catalog

MAX_K = 10_000  # limit of k, if the catalog has fewer items
WORDS = {
    "session": "external ids of each session's clicks, oldest first, padded on the right with any value",
    "lengths": "clicks of each session; 0 gives the popularity ranking",
    "k": "how many items to rank",
    "exclude": "external ids that are never recommended",
    "allow": "the only external ids that may be recommended, if use_allow is true",
    "use_allow": "whether `allow` is used",
    "exclude_seen": "whether a session's own items are left out",
    "available": "whether each item may be recommended, in the order of the internal ids; optional",
    "now": "the moment of the request, Unix milliseconds",
    "items": 'external ids, best first, padded with "" or -1',
    "scores": "the scores of the Recommender, padded with -inf",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """The conditions of a session.

    k: int64[1]. allowed: bool[N + 1]. exclude_seen: bool[1]. when: None without trends.
    """

    k: Value
    allowed: Value
    exclude_seen: Value
    when: Moment | None


def whole_graph(model: Model, variant: str, per_session: bool = False) -> GraphModel:
    """Return the graph of a model in 'float32', 'fp16' or 'int8': its proto, and its arrays by name.

    per_session: every input has a first axis `batch`, so that each session has its own conditions; the output is as
    wide as the largest k. Such a graph has no input `available`: it holds the availability of the export.
    """
    return _Whole(model, variant, per_session).build()


class _Whole:
    """Builds the graph of a model from the stages in the other modules of this package."""

    def __init__(self, model: Model, variant: str, per_session: bool) -> None:
        self._model, self._variant, self._per_session = model, variant, per_session
        self._n = model.n_items
        self._available = ~Catalog.of(model).unavailable
        self._ids = Ids(model.ids)
        self._trends = None if model.trends is None else TrendArrays(model.trends)
        self._memory = None if model.memory is None else Memory(model.memory)
        self._settings: QuerySettings = query_settings(model.config, model.trends is not None)

    def build(self) -> GraphModel:
        """Return the model, and its arrays by name."""
        g, dtypes = Graph(), self._input_dtypes()
        inputs = {name: g.value(name, dtype) for name, dtype in dtypes.items()}
        lengths = inputs["lengths"].flatten() if self._per_session else inputs["lengths"]
        ids, lengths = compacted(g, self._ids.known(g, inputs["session"]), lengths)
        query = encoded(g, self._model.config, self._model.weights, self._variant, ids, lengths)
        logits = catalog_logits(g, query, self._model.item_vectors, self._model.config.model.scale, self._variant)
        for name in ("exclude", "allow"):
            inputs[name] = self._ids.known(g, inputs[name])
        # The largest k of all sessions; 0 for an empty batch.
        width = g.concat(self._bounded_k(inputs["k"].flatten()), g.constant(np.array([0]))).reduce("Max", 0, keep=True)
        shared = None if self._per_session else self._request(g, inputs)

        def session_ranking(inside: Graph, session: Value) -> tuple[Value, Value]:
            rows = (
                {name: inside.outer(value).gather(session).flatten() for name, value in inputs.items()}
                if shared is None
                else {}
            )
            request = shared or self._request(inside, rows)
            return self._session_ranking(inside, session, ids, lengths, logits, request, width)

        batch = ids.length()
        items, values = g.loop(batch, session_ranking)
        # Without sessions a Loop's outputs have no width.
        shape = g.concat(batch, width)
        g.op("Identity", self._ids.external(g, items.reshape(shape)), name="items")
        g.op("Identity", values.reshape(shape), name="scores")
        return GraphModel(self._model_proto(g, dtypes), g.arrays)

    def _input_dtypes(self) -> dict[str, np.dtype[Any]]:
        dtypes = {
            "session": self._ids.dtype,
            "lengths": INT32,
            "k": INT64,
            "exclude": self._ids.dtype,
            "allow": self._ids.dtype,
        }
        dtypes |= {"use_allow": BOOL, "exclude_seen": BOOL}
        return dtypes if self._trends is None else dtypes | {"now": INT64}

    def _bounded_k(self, k: Value) -> Value:
        return k.maximum(0).minimum(max(self._n, MAX_K))

    def _request(self, g: Graph, inputs: Mapping[str, Value]) -> _Request:
        """Return the conditions from vectors by the inputs' names; exclude and allow are internal ids."""
        when = None if self._trends is None else moment(g, inputs["now"], self._trends)
        allowed = selection.allowed_items(g, inputs["exclude"], inputs["allow"], inputs["use_allow"], self._n)
        # An input with a default, as it is an initializer too. The last element is that of unknown ids.
        allowed = allowed & g.concat(g.table("available", self._available), g.constant(np.ones(1, BOOL)))
        return _Request(self._bounded_k(inputs["k"]), allowed, inputs["exclude_seen"], when)

    def _session_ranking(
        self, g: Graph, session: Value, ids: Value, lengths: Value, logits: Value, request: _Request, width: Value
    ) -> tuple[Value, Value]:
        """Return the ranking of session number `session`: int64[width], float32[width]."""
        m = g.outer(lengths).gather(session).cast(INT64)
        row = g.outer(ids).gather(session).flatten()

        def padded(make: Callable[[Graph], tuple[Value, Value]]) -> Callable[[Graph], tuple[Value, Value]]:
            def filled(inside: Graph) -> tuple[Value, Value]:
                items, values = make(inside)
                if self._per_session:
                    k = inside.outer(request.k)
                    items, values = items.slice(0, k), values.slice(0, k)
                return selection.padded(inside, items, values, inside.outer(width))

            return filled

        def ranking(inside: Graph) -> tuple[Value, Value]:
            clicks = inside.outer(row).slice(0, inside.outer(m))
            return self._ranking(inside, clicks, inside.outer(logits).gather(inside.outer(session)).flatten(), request)

        items, values = g.if_else(m > 0, padded(ranking), padded(lambda inside: self._popular(inside, request)))
        return items, values

    def _ranking(self, g: Graph, clicks: Value, logits: Value, request: _Request) -> tuple[Value, Value]:
        """Return the ranking after clicks int32[m], m >= 1, with the logits float32[N] of all items."""
        n, k = self._n, g.outer(request.k)
        allowed = selection.without_seen(g, g.outer(request.allowed), clicks, g.outer(request.exclude_seen), n)
        if self._memory is None:
            dense = selection.dense_items(g, logits, allowed, k.minimum(n))
            return dense.items, dense.logits
        net = self._model.ranker_net
        assert net is not None
        width = min(n, self._settings.dense)
        dense = selection.dense_items(g, logits, allowed, k.maximum(width).minimum(n))
        latest = clicks.slice(-MAX_CLICKS, 2**31)
        own = own_items(g, latest, self._memory.read(g, "item_counts"))
        trending, extra = None, None
        if self._trends is not None:
            assert request.when is not None
            trending = Trending(g, own, request.when.inside(g), self._trends)
            extra = trending.candidates(allowed, self._settings.trends)
        first = selection.Dense(dense.items.slice(0, width), dense.logits.slice(0, width), dense.all_logits)
        pool = Pool(g, own, self._memory, self._settings, first, extra)
        slots, unranked = pool.candidates(allowed), None
        if trending is not None and self._settings.ranked:
            slots, others, quick = pool.ranked(slots)
            unranked = pool.items.gather(others), quick
        items = pool.items.gather(slots)
        query, parts = pool.query_features(), [pool.features(slots)]
        if trending is not None:
            query |= trending.query_features()
            parts.append(trending.features(items, n))
        values = scores(g, net, query, parts)
        best = selection.ranked(g, items, values, k)
        if unranked is not None:
            behind = selection.below(g, values, unranked[1])
            best = g.concat(best[0], unranked[0]), g.concat(best[1], behind)
            items, values = g.concat(items, unranked[0]), g.concat(values, behind)
        return selection.with_dense(g, best, (items, values), dense, self._model.config.model.scale, n)

    def _popular(self, g: Graph, request: _Request) -> tuple[Value, Value]:
        order, clicks = self._model.most_clicked, self._model.popularity
        allowed = g.outer(request.allowed).slice(0, self._n)
        if self._trends is None:
            return selection.most_clicked(g, order, clicks, allowed)
        assert request.when is not None
        when = moment(g, g.outer(request.when.requested), self._trends, ranks=False)
        return selection.rising(g, order, clicks, allowed, when, self._trends)

    def _model_proto(self, g: Graph, dtypes: Mapping[str, np.dtype[Any]]) -> ModelProto:
        shapes: dict[str, list[Any]] = {
            "session": ["batch", "length"], "lengths": ["batch"], "exclude": ["n"], "allow": ["m"]
        }  # fmt: skip
        if self._per_session:
            shapes = {"session": ["length"], "exclude": ["n"], "allow": ["m"]}
            shapes = {name: ["batch", *shapes.get(name, [1])] for name in dtypes}
        else:
            dtypes = {**dtypes, "available": np.dtype(BOOL)}
            shapes["available"] = [self._n]

        def described(name: str, dtype: np.dtype[Any], shape: list[Any]) -> ValueInfoProto:
            element = TensorProto.STRING if dtype == TEXT else helper.np_dtype_to_tensor_dtype(dtype)
            return helper.make_tensor_value_info(name, element, shape)

        inputs = [described(name, dtype, shapes.get(name, [1])) for name, dtype in dtypes.items()]
        outputs = [
            described(name, dtype, ["batch", "k"]) for name, dtype in (("items", self._ids.dtype), ("scores", FLOAT32))
        ]
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
        graph = g.proto("recommender", inputs, outputs)
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
