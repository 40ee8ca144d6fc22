"""A model repository of an NVIDIA Triton Inference Server with the whole recommender.

    DIR/recommender/config.pbtxt
    DIR/recommender/1/model.onnx

Every input of its graph has a batch axis, so that the server's dynamic batcher can combine requests with different
conditions in one run; `docs/export.md` has the shapes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.export.graph_ranker import Run, open_graph
from mtaw_fast.export.onnx_build import Builder, ModelFiles
from mtaw_fast.export.onnx_model import EXTERNAL_OVER
from mtaw_fast.export.parity import TOLERANCE, Truth, edge_sessions, measure
from mtaw_fast.storage.files import atomic_path

MODEL = "recommender"
MAX_SESSIONS = 32  # of one run
_DELAY = 500  # microseconds that a request may wait for others
_VERSIONS = 2  # served at a time
_CONFIG = """\
# Written by mtaw-fast export --onnx --triton-repository; the graph computes on the CPU.
name: "{name}"
backend: "onnxruntime"
max_batch_size: {most}
input [
{inputs}
]
output [
  {{ name: "items", data_type: {kind}, dims: [ -1 ] }},
  {{ name: "scores", data_type: TYPE_FP32, dims: [ -1 ] }}
]
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
version_policy {{ latest {{ num_versions: {versions} }} }}
instance_group [ {{ count: 1, kind: KIND_CPU }} ]
parameters {{ key: "intra_op_thread_count" value {{ string_value: "1" }} }}
parameters {{ key: "inter_op_thread_count" value {{ string_value: "1" }} }}
"""


def write_repository(bundle_folder: Path, folder: Path, external_over: int = EXTERNAL_OVER) -> Path:
    """Write the bundle's recommender in float32 into `folder`, as the model's next version.

    The graph is first compared with the Recommender, as in `export_onnx`. The server sees a version only when it is
    complete.

    Returns the version's folder. Raises BundleError if the graph differs from the Recommender or the folder cannot be
    written, UsageError if the repository has a model of this name with other inputs.
    """
    bundle = Bundle.load(bundle_folder)
    model = folder / MODEL
    text = config(bundle)
    config_path = model / "config.pbtxt"
    if config_path.exists() and config_path.read_text() != text:
        raise UsageError(f"{config_path} is of another model (its inputs differ); name another --triton-repository")
    try:
        model.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".draft-") as drafts:
            files = Builder(bundle, Path(drafts), external_over).build_per_session()
            _check(bundle, files)
            version = _next_version(model)
            draft = Path(drafts) / "whole"
            draft.mkdir()
            files.model.rename(draft / "model.onnx")
            if files.data is not None:
                files.data.rename(draft / files.data.name)
            with atomic_path(config_path) as temporary:
                temporary.write_text(text)
            draft.rename(version)
    except OSError as error:
        raise BundleError(
            f"cannot write {folder}: {error.strerror or error}; name another --triton-repository"
        ) from None
    return version


def config(bundle: Bundle) -> str:
    """Return the text of config.pbtxt."""
    ids = "TYPE_STRING" if bundle.ids.kind == "str" else "TYPE_INT64"
    inputs = {
        "session": (ids, -1), "lengths": ("TYPE_INT32", 1), "k": ("TYPE_INT64", 1), "exclude": (ids, -1),
        "allow": (ids, -1), "use_allow": ("TYPE_BOOL", 1), "exclude_seen": ("TYPE_BOOL", 1),
    }  # fmt: skip
    if bundle.model.trends is not None:
        inputs["now"] = ("TYPE_INT64", 1)
    lines = [f'  {{ name: "{name}", data_type: {kind}, dims: [ {width} ] }}' for name, (kind, width) in inputs.items()]
    return _CONFIG.format(
        name=MODEL, most=MAX_SESSIONS, inputs=",\n".join(lines), kind=ids, delay=_DELAY, versions=_VERSIONS
    )


def spread(run: Run) -> Run:
    """Return a run of a graph with conditions for each session, from shared conditions."""

    def spread_run(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        batch = len(feed["session"])
        alone = {"session": feed["session"], "lengths": feed["lengths"][:, None]}
        shared = {name: np.tile(value, (batch, 1)) for name, value in feed.items() if name not in alone}
        return run(alone | shared)

    return spread_run


def _check(bundle: Bundle, files: ModelFiles) -> None:
    parity = measure(Truth.of(bundle, edge_sessions(bundle, 0), encoder=False), None, spread(open_graph(files.model)))
    if parity.misplaced or parity.score_error > TOLERANCE:
        raise BundleError(
            f"the graph for Triton differs from the Recommender ({parity.misplaced} wrong ranks, scores by "
            f"{parity.score_error:.2g}); nothing was written: try another version of ONNX Runtime and report this"
        )


def _next_version(model: Path) -> Path:
    versions = [int(path.name) for path in model.iterdir() if path.name.isdecimal()]
    return model / str(max(versions, default=0) + 1)
