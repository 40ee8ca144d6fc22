"""The format of a bundle: its parts, their names, and the hash that identifies its model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

FORMAT = "mtaw_fast bundle"
FORMAT_VERSION = 3
COMPACT_VERSION = 4  # what can be derived at load is left out (`bundle.compact`)
READABLE_VERSIONS = (FORMAT_VERSION, COMPACT_VERSION)
MANIFEST = "manifest.json"
PARTS = ("weights", "catalog", "items", "popularity")
OPTIONAL_PARTS = ("scan",)
MEMORY_PARTS = ("memory", "ranker")  # both or neither
TRAINED = "trained"  # in the manifest of a bundle that learned a log without a training: when it was trained
ITEM_PARTS = ("item_table",)  # what is known about the items; the part `items` has their external ids
# The ONNX graphs that export adds, float32 under the plain name; *_data: arrays that are too large for the graph file.
GRAPHS = ("encoder", "recommender")
VARIANTS = ("float32", "fp16", "int8")
GRAPH_PARTS = {
    (graph, variant): graph if variant == "float32" else f"{graph}_{variant}"
    for graph in GRAPHS
    for variant in VARIANTS
}
# As in kernels/native/bundle/open.cpp. times, trends, context and types: of the clicks in `memory`.
SERVED_PARTS = (
    *PARTS, *OPTIONAL_PARTS, *MEMORY_PARTS, "times", "trends", "context", "types", "learned", *ITEM_PARTS, "content",
)  # fmt: skip
ADDED_PARTS = ("index", *GRAPH_PARTS.values(), *(f"{part}_data" for part in GRAPH_PARTS.values()))

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def model_hash(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 (64 hex digits) over the hashes of PARTS, which identifies a bundle's trained model."""
    digests = [str(manifest["files"][part]["sha256"]) for part in PARTS if part in manifest["files"]]
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def trained_at(manifest: Mapping[str, Any]) -> str:
    """Return when a bundle was trained, ISO 8601; "" if unknown. An update without a refit writes it and is none."""
    return str(manifest.get(TRAINED) or manifest.get("created") or "")


def is_plain_name(name: object) -> bool:
    """Return whether a manifest may name this file: no separators, no '..', not hidden."""
    return isinstance(name, str) and _PLAIN_NAME.fullmatch(name) is not None and ".." not in name
