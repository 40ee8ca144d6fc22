"""The report of an export of graphs, as JSON and as lines of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MISSING = "no external ids, search, conditions, session memory or ranker"


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
        if quality is None:
            return {"onnx": None, "recommender": None, "places_equal": None, "variants": None, "graphs": self.entry}
        variants = dict(quality["variants"])
        onnx = variants.pop("float32", None)
        return {
            "onnx": None if onnx is None else {name: onnx[name] for name in ("P@20", "MRR@20")},
            "recommender": quality["recommender"],
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
            lines.append(f"encoder.onnx is only a part: {_MISSING}; leave out --part for the whole")
        if quality is None:
            return [
                *lines,
                "not measured on a data set: --dataset DATASET compares P@20 and MRR@20 with the Recommender",
            ]
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
