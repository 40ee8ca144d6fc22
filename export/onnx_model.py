"""Add ONNX graphs of the model to a bundle: build them, check them, compare them with the model, write them."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.bundle.format import GRAPH_PARTS, GRAPHS, VARIANTS, model_hash
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.storage.files import atomic_path

ENTRY = "onnx"  # the manifest's entry about the graphs
PARTS = ("whole", "encoder")
EXTERNAL_OVER = 2_000_000_000  # bytes: protobuf ends at 2^31

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExportedGraphs:
    """The result of `export_onnx`. entry: the manifest's new entry `onnx`; None if the graphs were removed."""

    entry: dict[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values: P@20 and MRR@20 in percent of the float32 graph (`onnx`), the Recommender and variants.

        `places_equal` is the share of positions with the same item in percent. All are None without a data set.
        `graphs` is the manifest's entry.
        """
        quality = None if self.entry is None else self.entry["quality"]
        variants = None if quality is None else dict(quality["variants"])
        onnx = None if variants is None else variants.pop("float32", None)
        return {
            "onnx": None if onnx is None else {name: onnx[name] for name in ("P@20", "MRR@20")},
            "recommender": None if quality is None else quality["recommender"],
            "places_equal": None if onnx is None else onnx["places_equal"],
            "variants": variants,
            "graphs": self.entry,
        }

    def lines(self) -> list[str]:
        """Return lines of text: one for each variant, and what is missing."""
        if self.entry is None:
            return ["onnx: the bundle has no graphs now"]
        lines = [_line(name, facts) for name, facts in self.entry["variants"].items()]
        quality, part = self.entry["quality"], self.entry["part"]
        if part == "encoder":
            missing = "no external ids, search, conditions, session memory or ranker"
            lines.append(f"encoder.onnx is only a part: {missing}; leave out --part for the whole")
        if quality is None:
            lines.append("not measured on a data set: --dataset DATASET compares P@20 and MRR@20 with the Recommender")
            return lines
        note = "" if part == "whole" else ", with an exact search of the catalog"
        served = quality["recommender"]
        for name, values in quality["variants"].items():
            lines.append(
                f"onnx {name} on {quality['dataset']['name']}, {quality['samples']} test samples{note}: P@20 "
                f"{values['P@20']:.2f}, MRR@20 {values['MRR@20']:.2f}; the Recommender: {served['P@20']:.2f}, "
                f"{served['MRR@20']:.2f}; {values['places_equal']:.2f}% of the top-20 ranks equal"
            )
        return lines


def _line(name: str, facts: dict[str, Any]) -> str:
    parity = facts["parity"]
    size = ", ".join(f"{graph} {size / 1e6:.1f} MB" for graph, size in facts["bytes"].items())
    if "recommender" not in facts["bytes"]:
        return f"onnx {name}: {size}; queries within {parity['query_error']:.2g} of the PyTorch model's"
    return (
        f"onnx {name}: {size}; top-20 overlap with the Recommender {parity['overlap']:.2%} (worst session "
        f"{parity['least_overlap']:.0%}), scores within {parity['score_error']:.2g}, of {parity['sessions']} sessions"
    )


def export_onnx(
    folder: str | os.PathLike[str],
    variants: Sequence[str] = VARIANTS,
    *,
    part: str = "whole",
    dataset: Dataset | None = None,
    external_over: int = EXTERNAL_OVER,
    seed: int = 0,
    say: Say = lambda _: None,
) -> ExportedGraphs:
    """Add the graphs `encoder` and `recommender` to the bundle in `folder`; they replace earlier ones.

    Drafts are in the system's folder for temporary files (TMPDIR) until all checks have passed.

    variants: of 'float32', 'fp16', 'int8'; an empty list removes the graphs. Each is compared in ONNX Runtime, the
    encoder with the PyTorch model and the whole with the Recommender, on edge cases and random sessions (by `seed`).
    part: 'whole', or 'encoder' without recommender.onnx. dataset: every variant is compared with the Recommender on its
    test split. external_over: a graph with more bytes of arrays has them in a separate file. say: called with lines of
    progress.

    Raises UsageError on an unknown variant or part, a data set without test samples, or part 'whole' of a bundle whose
    ranker reads context, the content of items or the types of clicks, or with an item id that is no valid Unicode;
    BundleError if a graph is not valid, differs from the model or is worse on the data set, the bundle was changed
    meanwhile, or the disk is full (the bundle stays as it is); MissingPackageError without onnx, ONNX Runtime or
    PyTorch.
    """
    folder = Path(folder)
    for name in variants:
        if name not in VARIANTS:
            raise UsageError(f"there is no variant {name!r} of the ONNX graphs; choose from {', '.join(VARIANTS)}")
    if part not in PARTS:
        raise UsageError(f"there is no part {part!r} of the ONNX graphs; choose from {', '.join(PARTS)}")
    if external_over < 0:
        raise UsageError(f"external_over is a number of bytes, not {external_over}")
    if dataset is not None and len(dataset.test) == 0:
        raise UsageError(f"the data set {dataset.name} has no test samples; prepare it with a test part")
    bundle = Bundle.load(folder)
    if not variants:
        replace_parts(folder, bundle.manifest, _no_graphs(), {ENTRY: None})
        return ExportedGraphs(None)
    for package, extra in (("onnx", "train"), ("onnxruntime", "cpu"), ("torch", "train")):
        require(package, extra)
    net = bundle.model.ranker_net
    if part == "whole" and net is not None and net.has_trends and net.side.names:
        raise UsageError(
            f"the graph of the whole recommender has no features of context and item content, which {folder} has "
            f"({net.side.names[0]}, ..); export the encoder alone (--part encoder), or train on a data set without them"
        )
    if part == "whole" and net is not None and net.types:
        raise UsageError(
            f"the graph of the whole recommender does not read the types of clicks, as the ranker of {folder} does; "
            "export the encoder alone (--part encoder), or train with --set event_types=false"
        )
    chosen = [name for name in VARIANTS if name in variants]
    try:
        with tempfile.TemporaryDirectory(prefix="mtaw-fast-onnx-") as drafts:
            return _export(bundle, chosen, part, dataset, Path(drafts), external_over, seed, say)
    except OSError as error:
        raise BundleError(f"cannot write the graphs of {folder}: {error.strerror or error}; set TMPDIR") from None


def _export(
    bundle: Bundle, variants: list[str], part: str, dataset: Dataset | None, drafts: Path, external_over: int,
    seed: int, say: Say,
) -> ExportedGraphs:  # fmt: skip
    import onnx
    import onnxruntime

    from mtaw_fast.export.graph_ranker import open_graph
    from mtaw_fast.export.onnx_build import GRAPH_VERSION, Builder
    from mtaw_fast.export.onnx_graph import OPSET
    from mtaw_fast.export.parity import Truth, edge_sessions, measure

    say("running the PyTorch model and the recommender")
    truth = Truth.of(bundle, edge_sessions(bundle, seed), seed)
    builder = Builder(bundle, drafts, external_over)
    graphs = GRAPHS if part == "whole" else ("encoder",)
    facts: dict[str, Any] = {}
    additions = _no_graphs()
    opened = {}
    for variant in variants:
        say(f"making and checking the graphs in {variant}")
        files = {graph: builder.build(graph, variant) for graph in graphs}
        say(f"running them in ONNX Runtime on {len(truth.sessions)} sessions")
        runs = {graph: open_graph(files[graph].model) for graph in graphs}
        parity = measure(truth, runs["encoder"], runs.get("recommender"))
        _check(bundle.folder, variant, parity)
        opened[variant] = runs[graphs[-1]]
        facts[variant] = {"bytes": {graph: files[graph].size for graph in graphs}, "parity": parity.as_dict()}
        for graph in graphs:
            name = GRAPH_PARTS[graph, variant]
            additions[name] = Addition("onnx", partial(_copy, files[graph].model))
            data = files[graph].data
            if data is not None:
                additions[f"{name}_data"] = Addition("bin", partial(_copy, data))
    entry = {
        "graph_version": GRAPH_VERSION,
        "model": model_hash(bundle.manifest),
        "opset": OPSET,
        "part": part,
        "variants": facts,
        "versions": {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        "quality": None if dataset is None else _quality(bundle, opened, part, dataset, say),
    }
    say("writing the graphs into the bundle")
    replace_parts(bundle.folder, bundle.manifest, additions, {ENTRY: entry})
    return ExportedGraphs(entry)


def _quality(bundle: Bundle, opened: Mapping[str, Any], part: str, dataset: Dataset, say: Say) -> dict[str, Any]:
    """Return the quality of every variant on the test split. Raises BundleError if a whole graph is too bad."""
    from mtaw_fast.evaluation.protocol import translated
    from mtaw_fast.export.graph_ranker import EncoderRanker, GraphRanker, ServedRanker
    from mtaw_fast.export.parity import compare, shortfall
    from mtaw_fast.recommender import Recommender

    served = ServedRanker(Recommender.load(bundle.folder, encoder="native", index="native", verify=False))
    rankers = {
        name: GraphRanker(bundle, run) if part == "whole" else EncoderRanker(bundle, run, served)
        for name, run in opened.items()
    }
    qualities = compare(translated(dataset.test, dataset.ids, bundle.ids), served, rankers, say)
    recommender = qualities.pop("recommender")
    for name, quality in qualities.items():
        difference = shortfall(name, part, quality, recommender)
        if difference is not None:
            raise BundleError(
                f"the {name} graph of {bundle.folder} ranks {dataset.name} differently from the Recommender: "
                f"{difference}; nothing was exported: "
                + (f"leave {name} out of --variants" if name != "float32" else "report this")
            )
    flag = "" if part == "whole" else f" --part {part}"
    return {
        "command": f"mtaw-fast export BUNDLE --onnx{flag} --dataset DATASET",
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "samples": len(dataset.test),
        "recommender": recommender.as_dict(alone=True),
        "variants": {name: quality.as_dict() for name, quality in qualities.items()},
    }


def _check(folder: Path, variant: str, parity: Any) -> None:
    """Raise BundleError if the float32 graphs differ from the model, or others give scores that are not finite."""
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
        f"the float32 graphs of {folder} differ from the model (scores by {parity.score_error:.2g}, queries by "
        f"{parity.query_error:.2g}, {parity.misplaced} wrong ranks in the top 20 of {parity.sessions} sessions); "
        "nothing was exported: try another version of ONNX Runtime and report this"
    )


def _no_graphs() -> dict[str, Addition | None]:
    """Return the additions that remove every graph."""
    return dict.fromkeys([name for part in GRAPH_PARTS.values() for name in (part, f"{part}_data")])


def _copy(source: Path, path: Path) -> None:
    """Copy a draft durably."""
    with atomic_path(path) as temporary:
        shutil.copyfile(source, temporary)
