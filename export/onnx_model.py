"""Adding ONNX graphs of the model to a bundle: made, checked, held against the eager model, put in."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.bundle.format import GRAPH_PARTS, GRAPHS, VARIANTS, model_hash
from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.storage.files import atomic_path

ENTRY = "onnx"  # the manifest's entry about the graphs
_EXTERNAL_OVER = 2_000_000_000  # bytes: protobuf ends at 2^31

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportedGraphs:
    """What `export_onnx` did. entry: the manifest's new entry `onnx`, None where the graphs were taken away."""

    entry: dict[str, Any] | None

    def lines(self) -> list[str]:
        """The entry for people, a line for each variant."""
        if self.entry is None:
            return ["onnx: the bundle has no graphs now"]
        return [_line(name, facts) for name, facts in self.entry["variants"].items()]


def export_onnx(
    folder: str | os.PathLike[str],
    variants: Sequence[str] = VARIANTS,
    *,
    external_over: int = _EXTERNAL_OVER,
    seed: int = 0,
    say: Say = lambda _: None,
) -> ExportedGraphs:
    """Give the bundle in `folder` the graphs `encoder` and `recommender`, in the place of any earlier ones.

    variants: of 'float32', 'fp16', 'int8'; none takes the graphs away. Each is run in ONNX Runtime against the eager
    model, on sessions at the borders and on random ones (by `seed`). external_over: a graph with more bytes of arrays
    has them in a file of their own. say: told what is going on, a line at a time.

    The graphs hold the model's neural part: encoder and catalog. Drafts of them lie in the system's folder for
    temporary files (TMPDIR) until they have passed.

    Raises UsageError on an unknown variant; BundleError where a graph is not valid or the float32 one answers
    otherwise than the eager model (the bundle is left as it was), where the bundle changed meanwhile, or the disk is
    full; MissingPackageError without onnx, ONNX Runtime or PyTorch.
    """
    folder = Path(folder)
    for name in variants:
        if name not in VARIANTS:
            raise UsageError(f"there is no variant {name!r} of the ONNX graphs; choose from {', '.join(VARIANTS)}")
    if external_over < 0:
        raise UsageError(f"external_over is a number of bytes, not {external_over}")
    bundle = Bundle.load(folder)
    if not variants:
        replace_parts(folder, bundle.manifest, _nothing(), {ENTRY: None})
        return ExportedGraphs(None)
    for package, extra in (("onnx", "train"), ("onnxruntime", "cpu"), ("torch", "train")):
        require(package, extra)
    chosen = [name for name in VARIANTS if name in variants]
    try:
        with tempfile.TemporaryDirectory(prefix="mtaw-fast-onnx-") as drafts:
            return _export(folder, bundle, chosen, Path(drafts), external_over, seed, say)
    except OSError as error:
        raise BundleError(f"cannot write the graphs of {folder}: {error.strerror or error}; set TMPDIR") from None


def _export(
    folder: Path, bundle: Bundle, variants: list[str], drafts: Path, external_over: int, seed: int, say: Say
) -> ExportedGraphs:
    import onnx
    import onnxruntime

    from mtaw_fast.export.onnx_build import GRAPH_VERSION, HOLDS, Builder
    from mtaw_fast.export.onnx_graph import OPSET
    from mtaw_fast.export.parity import Truth, edge_sessions, measure, open_graph

    say("asking the eager model")
    truth = Truth.of(bundle, edge_sessions(bundle, seed))
    builder = Builder(bundle, drafts, external_over)
    facts: dict[str, Any] = {}
    additions = _nothing()
    for variant in variants:
        say(f"making and checking the graphs in {variant}")
        files = {graph: builder.build(graph, variant) for graph in GRAPHS}
        say(f"running them in ONNX Runtime on {len(truth.sessions)} sessions")
        parity = measure(truth, *(open_graph(files[graph].model) for graph in GRAPHS))
        _check(folder, variant, parity)
        facts[variant] = {"bytes": {graph: files[graph].size for graph in GRAPHS}, "parity": parity.as_dict()}
        for graph in GRAPHS:
            part = GRAPH_PARTS[graph, variant]
            additions[part] = Addition("onnx", partial(_copy, files[graph].model))
            data = files[graph].data
            if data is not None:
                additions[f"{part}_data"] = Addition("bin", partial(_copy, data))
    entry = {
        "graph_version": GRAPH_VERSION,
        "model": model_hash(bundle.manifest),
        "opset": OPSET,
        "holds": HOLDS,
        "variants": facts,
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
    }
    say("writing the graphs into the bundle")
    replace_parts(folder, bundle.manifest, additions, {ENTRY: entry})
    return ExportedGraphs(entry)


def _check(folder: Path, variant: str, parity: Any) -> None:
    """Raise BundleError where the float32 graphs do not answer as the eager model does, or others not with numbers."""
    from mtaw_fast.export.parity import TOLERANCE

    if variant != "float32":
        if math.isfinite(parity.score_error) and math.isfinite(parity.query_error):
            return
        raise BundleError(
            f"the {variant} graphs of {folder} give no finite scores: the model's numbers are too large for them; "
            f"nothing was exported: leave {variant} out of --variants"
        )
    if parity.score_error <= TOLERANCE and parity.query_error <= TOLERANCE and parity.misplaced == 0:
        return
    raise BundleError(
        f"the float32 graphs of {folder} differ from the eager model (scores by {parity.score_error:.2g}, queries by "
        f"{parity.query_error:.2g}, {parity.misplaced} wrong items in the top 20 of {parity.sessions} sessions); "
        "nothing was exported: try another version of ONNX Runtime and report this"
    )


def _nothing() -> dict[str, Addition | None]:
    """What takes every graph away."""
    return dict.fromkeys([name for part in GRAPH_PARTS.values() for name in (part, f"{part}_data")])


def _copy(source: Path, path: Path) -> None:
    """Copy a draft durably."""
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)


def _line(name: str, facts: dict[str, Any]) -> str:
    parity, sizes = facts["parity"], facts["bytes"]
    size = ", ".join(f"{graph} {sizes[graph] / 1e6:.1f} MB" for graph in GRAPHS)
    return (
        f"onnx {name}: {size}; top-20 overlap with the eager model {parity['overlap']:.2%} (worst session "
        f"{parity['least_overlap']:.0%}), scores within {parity['score_error']:.2g}, of {parity['sessions']} sessions"
    )
