"""What a bundle consists of: file names, array shapes, and the checks that both reading and writing make."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.errors import BundleError, shown
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.model.recent_clicks import recent_of

FORMAT = "mtaw_fast bundle"
FORMAT_VERSION = 2
READABLE_VERSIONS = (1, 2)  # 1: text ids by sorted BLAKE2b hashes (`itemids`)
MANIFEST = "manifest.json"
PARTS = ("weights", "catalog", "items", "popularity")
OPTIONAL_PARTS = ("scan",)
MEMORY_PARTS = ("memory", "ranker")  # both or neither
# The ONNX graphs that export adds, float32 under the plain name; *_data: arrays that are too large for one file.
GRAPHS = ("encoder", "recommender")
VARIANTS = ("float32", "fp16", "int8")
GRAPH_PARTS = {
    (graph, variant): graph if variant == "float32" else f"{graph}_{variant}"
    for graph in GRAPHS
    for variant in VARIANTS
}
ADDED_PARTS = ("index", *GRAPH_PARTS.values(), *(f"{part}_data" for part in GRAPH_PARTS.values()))

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NORM_ROWS = 1 << 16


def parameter_shapes(config: Config, n_items: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of every learned array of MTAW over N items (all float32, Linear as weight[out, in])."""
    d = config.d
    recent: dict[str, tuple[int, ...]] = {"recent": (2,)} if config.recent > 0 else {}
    return {
        "item_embedding": (n_items, d),
        "position_embedding": (config.positions, d),
        "itl_query_weight": (d, d),
        "itl_query_bias": (d,),
        "ffn_in_weight": (d, d),
        "ffn_in_bias": (d,),
        "ffn_out_weight": (d, d),
        "ffn_out_bias": (d,),
        "norm_weight": (d,),
        "norm_bias": (d,),
        "iel_query_weight": (d, d),
        "iel_query_bias": (d,),
        **recent,
    }


def model_hash(manifest: Mapping[str, Any]) -> str:
    """64 hex digits that name the trained model of a bundle: a SHA-256 over those of its own parts."""
    digests = [str(manifest["files"][part]["sha256"]) for part in PARTS]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def is_plain_name(name: object) -> bool:
    """Whether a manifest may name this file: no separators, no '..', not hidden."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None and ".." not in name


def check_array(where: str, name: str, array: np.ndarray | None, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
    """`array` itself. Raises BundleError unless it is there with this dtype and shape."""
    wanted = f"{np.dtype(dtype)}{list(shape)}"
    if array is None:
        raise BundleError(f"{where}: the array '{name}' ({wanted}) is missing; train the bundle anew")
    if array.dtype != dtype or array.shape != shape:
        raise BundleError(
            f"{where}: '{name}' must be {wanted}, not {array.dtype}{list(array.shape)}; train the bundle anew"
        )
    return array


def check_weights(where: str, weights: Mapping[str, np.ndarray], config: Config, n_items: int) -> None:
    """Raise BundleError unless `weights` are exactly the model's arrays, by name, dtype and shape."""
    shapes = parameter_shapes(config, n_items)
    foreign = sorted(set(weights) - set(shapes))
    if foreign:
        raise BundleError(f"{where}: {shown(foreign[0])} is no array of this model; train the bundle anew")
    for name, shape in shapes.items():
        check_array(where, name, weights.get(name), np.float32, shape)
    try:
        recent_of(weights)
    except ValueError as error:
        raise BundleError(f"{where}: {error}; train the bundle anew") from None


def check_finite(where: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise BundleError where a float array holds a NaN or an infinity."""
    for name, array in arrays.items():
        # The extremes carry every NaN and infinity, without a mask of the array's size.
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise BundleError(f"{where}: '{name}' holds a value that is not finite; train the bundle anew")


def check_memory(where: str, memory: MemoryTables | None, ranker: RankerNet | None, n_items: int) -> None:
    """Raise BundleError unless the tables and the ranker of a session memory are both there, of N items, or neither."""
    if (memory is None) != (ranker is None):
        there, missing = ("ranker", "memory") if memory is None else ("memory", "ranker")
        raise BundleError(f"{where}: a '{there}' without its '{missing}' can rank nothing; train the bundle anew")
    if memory is not None and memory.n_items != n_items:
        raise BundleError(f"{where}: its memory is of {memory.n_items} items, not {n_items}; train the bundle anew")


def normalised(embeddings: np.ndarray) -> np.ndarray:
    """float32[N, d] rows divided by their length (float64, rounded once); zero rows stay zero."""
    out = np.zeros(embeddings.shape, dtype=np.float32)
    for begin in range(0, len(embeddings), _NORM_ROWS):
        rows = embeddings[begin : begin + _NORM_ROWS].astype(np.float64)
        lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        out[begin : begin + len(rows)] = rows / np.where(lengths > 0, lengths, 1)[:, None]
    return out


def most_clicked_first(popularity: np.ndarray) -> np.ndarray:
    """int32[N]: internal ids by descending clicks int64[N], equal ones in id order."""
    return np.argsort(-popularity, kind="stable").astype(np.int32)
