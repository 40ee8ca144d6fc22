"""MTAW's encoder as an ONNX graph, in ONNX's text format: the formulas of the model, line by line.

    ids, lengths -> query: o_m / |o_m| of every session's last click m (of o_m + gain * r_m if the model has the array
                    `recent`)

Axes: B sessions (`batch`), L clicks of the longest (`length`), W = min(L, max_session_length), d. Integers are int32.
Interest tracking runs for every click, since the last query reads all interests; interest enhancing only for the last
click. The queries' 1/sqrt(d) is folded into their layers: ReLU(c v) = c ReLU(v) for c > 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, parser

from mtaw_fast.config import Config
from mtaw_fast.model.parameters import RECENT_CLICKS, SHORTEST, recent_of

OPSET = 18
IR_VERSION = 8  # that of opset 18, which every runtime with this opset reads
_NORM_EPS = 1e-5
_DTYPES: Mapping[str, np.dtype[Any]] = {"float32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}

# Weights have the bundle's names. Values are named as in the formulas of `prefix_interest`.
_QUERY = f"""
    # Only the last max_len clicks of a session count, moved to the left.
    length = Shape <start = 1, end = 2> (ids)
    width = Min (length, max_len)
    step = Slice (all_steps, zero, width)
    beyond = Sub (lengths, longest)
    skipped = Max (beyond, nought)
    m = Sub (lengths, skipped)
    first = Unsqueeze (skipped, one)
    position = Add (first, step)
    click = GatherElements <axis = 1> (ids, position)

    # x_t = e(i_t) + p_t
    EMBEDDINGS
    p = Slice (position_embedding, zero, width)
    x = Add (e, p)

    # Interest tracking: l'_t = softmax(q_t X_t^T / sqrt(d)) X_t, the future masked (and with it the padding)
    q_product = MatMul (x, itl_query_weight)
    q_sum = Add (q_product, itl_query_bias)
    q = Relu (q_sum)
    x_columns = Transpose <perm = [0, 2, 1]> (x)
    likeness = MatMul (q, x_columns)
    now = Unsqueeze (step, one)
    is_future = Less (now, step)
    past_likeness = Where (is_future, minus_infinity, likeness)
    attention = Softmax <axis = -1> (past_likeness)
    instant = MatMul (attention, x)

    # l_t = LayerNorm(l'_t + FFN(l'_t))
    hidden_product = MatMul (instant, ffn_in_weight)
    hidden_sum = Add (hidden_product, ffn_in_bias)
    hidden = Relu (hidden_sum)
    update_product = MatMul (hidden, ffn_out_weight)
    update = Add (update_product, ffn_out_bias)
    changed = Add (instant, update)
    l = LayerNormalization <axis = -1, epsilon = {_NORM_EPS:g}> (changed, norm_weight, norm_bias)

    # Interest enhancing of click m: o_m = softmax(q'_m L_m^T / sqrt(d)) L_m, the padding masked
    m_before = Sub (m, single)
    m_index = Cast <to = {TensorProto.INT64}> (m_before)
    m_place = Unsqueeze (m_index, one)
    l_m = GatherND <batch_dims = 1> (l, m_place)
    q_m_sum = Gemm (l_m, iel_query_weight, iel_query_bias)
    q_m_flat = Relu (q_m_sum)
    q_m = Unsqueeze (q_m_flat, one)
    l_columns = Transpose <perm = [0, 2, 1]> (l)
    trend = MatMul (q_m, l_columns)
    m_rows = Unsqueeze (m, one_two)
    is_padding = GreaterOrEqual (step, m_rows)
    real_trend = Where (is_padding, minus_infinity, trend)
    trend_attention = Softmax <axis = -1> (real_trend)
    o_row = MatMul (trend_attention, l)
    o_here = Squeeze (o_row, one)
    o = Cast <to = {TensorProto.FLOAT}> (o_here)
"""
_TABLE = "e = Gather (item_embedding, click)"
_TABLE_BY_BYTES = f"""e_codes = Gather (item_codes, click)
    e_steps = Cast <to = {TensorProto.FLOAT}> (e_codes)
    e_step = Gather (item_steps, click)
    e = Mul (e_steps, e_step)"""
_RECENT = f"""
    # r_m = sqrt(d) sum_k decay^k u_(m-k) / sum_k decay^k over the last clicks, u = e / max(|e|, shortest)
    e_float = Cast <to = {TensorProto.FLOAT}> (e)
    e_norm = ReduceL2 (e_float, two)
    e_divisor = Max (e_norm, shortest)
    u = Div (e_float, e_divisor)
    m_last = Sub (m_rows, single)
    back = Sub (m_last, step)
    is_there = GreaterOrEqual (back, nought)
    is_late = Less (back, recent_clicks)
    is_recent = And (is_there, is_late)
    back_there = Max (back, nought)
    power_place = Min (back_there, earliest_recent)
    powers = Gather (decay_powers, power_place)
    r_weights = Where (is_recent, powers, silence)
    r_total = ReduceSum (r_weights, two)
    r_shares = Div (r_weights, r_total)
    r_row = MatMul (r_shares, u)
    r_direction = Squeeze (r_row, one)
    r = Mul (r_direction, recent_length)
    o_and_recent = Add (o, r)
"""
_DIRECTION = """
    # At length 1; a zero vector stays zero, also for a session without clicks
    norm = ReduceL2 (SUM, one)
    divisor = Max (norm, tiny)
    direction = Div (SUM, divisor)
    m_column = Unsqueeze (m, one)
    has_clicks = Greater (m_column, nought)
    query = Where (has_clicks, direction, silence)
"""
ENCODER_WORDS = {
    "ids": "internal item ids of each session's clicks, oldest first, padded on the right with -1",
    "lengths": "clicks of each session",
    "query": "the unit query vector after the last click; zero for a session without clicks",
}


@dataclass(frozen=True, slots=True, eq=False)
class GraphModel:
    """A model without its initializers, and their arrays by name; protobuf is limited to 2 GB, numpy is not."""

    model: ModelProto
    arrays: Mapping[str, np.ndarray]


def encoder_graph(
    config: Config, weights: Mapping[str, np.ndarray], variant: str, overridable: bool = False
) -> GraphModel:
    """Return the encoder over the bundle's weights, in 'float32', 'fp16' or 'int8' (with float32 inputs and outputs).

    In 'int8' only the item embeddings are rounded, with a scale for each item: the layers are small, and in int8 they
    were slower and reduced the top-20 overlap.

    overridable: a caller may also feed `item_embedding` float32[items, d], in which the ids are looked up then.
    """
    d = config.model.embedding_dim
    signature = f"encoder (int32[batch, length] ids, int32[batch] lengths) => (float[batch, {d}] query)"
    body = _QUERY.replace("EMBEDDINGS", _TABLE_BY_BYTES if variant == "int8" else _TABLE)
    if config.model.recent_weight == 0:
        body += _DIRECTION.replace("SUM", "o")
    else:
        body += _RECENT + _DIRECTION.replace("SUM", "o_and_recent")
    model = parser.parse_model(f'<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}]>\n{signature} {{{body}}}')
    for node in model.graph.node:
        node.name = node.output[0]
    if overridable:
        table = helper.make_tensor_value_info("item_embedding", TensorProto.FLOAT, ["items", d])
        table.doc_string = "optional: other item embeddings; by default the bundle's"
        model.graph.input.append(table)
    input_names = {name for node in model.graph.node for name in node.input}
    values = _values(config, weights, variant)
    return GraphModel(model, {name: np.asarray(value) for name, value in values.items() if name in input_names})


def describe(model: ModelProto, about: Mapping[str, Any], summary: str, words: Mapping[str, str]) -> None:
    """Add metadata to a model, and descriptions to its inputs and outputs."""
    helper.set_model_props(model, {name: str(value) for name, value in about.items()})
    model.producer_name = "mtaw_fast"
    model.doc_string = summary
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = words.get(value.name, value.doc_string)


def _values(config: Config, weights: Mapping[str, np.ndarray], variant: str) -> dict[str, Any]:
    dtype, embeddings = "fp16" if variant == "fp16" else "float32", weights["item_embedding"]
    values = {**_constants(config, weights, dtype), **_layers(config, weights, dtype)}
    if variant == "int8":
        steps = np.maximum(np.abs(embeddings).max(axis=1, keepdims=True), np.finfo(np.float32).tiny) / np.float32(127)
        codes = np.rint(embeddings / steps).astype(np.int8)
        return values | {"item_codes": codes, "item_steps": steps.astype(np.float32)}
    with np.errstate(over="ignore"):  # the result of an overflow is not exported: see `onnx_model._check`
        return values | {"item_embedding": embeddings.astype(_DTYPES[dtype], copy=False)}


def _constants(config: Config, weights: Mapping[str, np.ndarray], dtype: str) -> dict[str, Any]:
    recent, longest = recent_of(weights), config.model.max_session_length
    return {
        "zero": np.array([0]), "one": np.array([1]), "one_two": np.array([1, 2]), "max_len": np.array([longest]),
        "nought": np.int32(0), "single": np.int32(1), "longest": np.int32(longest),
        "all_steps": np.arange(longest, dtype=np.int32),
        "minus_infinity": np.array(-np.inf, _DTYPES[dtype]),
        "tiny": np.float32(np.finfo(np.float32).tiny), "silence": np.float32(0), "two": np.array([2]),
        "shortest": np.float32(SHORTEST),
        "recent_clicks": np.int32(RECENT_CLICKS), "earliest_recent": np.int32(RECENT_CLICKS - 1),
        "decay_powers": (recent.decay ** np.arange(RECENT_CLICKS, dtype=np.float64)).astype(np.float32),
        "recent_length": np.float32(recent.gain * math.sqrt(config.model.embedding_dim)),
    }  # fmt: skip


def _layers(config: Config, weights: Mapping[str, np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Return the small weights: layers as [in, out], and one position row for each step."""
    shrink = np.float32(1 / math.sqrt(config.model.embedding_dim))
    rows = np.minimum(np.arange(config.model.max_session_length), config.model.max_positions - 1)
    values = {
        "position_embedding": weights["position_embedding"][rows],
        "itl_query_weight": weights["itl_query_weight"].T * shrink,
        "itl_query_bias": weights["itl_query_bias"] * shrink,
        "ffn_in_weight": weights["ffn_in_weight"].T,
        "ffn_in_bias": weights["ffn_in_bias"],
        "ffn_out_weight": weights["ffn_out_weight"].T,
        "ffn_out_bias": weights["ffn_out_bias"],
        "norm_weight": weights["norm_weight"],
        "norm_bias": weights["norm_bias"],
        "iel_query_weight": weights["iel_query_weight"].T * shrink,
        "iel_query_bias": weights["iel_query_bias"] * shrink,
    }
    return {name: np.ascontiguousarray(value.astype(_DTYPES[dtype])) for name, value in values.items()}
