"""Write the page: one file, without scripts and without network resources."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mtaw_fast import __version__
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle_page.examples import examples_of
from mtaw_fast.bundle_page.facts import data_facts, feature_rows, model_facts, phase_rows
from mtaw_fast.bundle_page.scores import evaluated, validated
from mtaw_fast.config.type_weights import TypeWeights
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import BundleError, UsageError, require
from mtaw_fast.evaluation.curves import figures_of
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.files import check_writable, write_bytes
from mtaw_fast.workflow import Progress

_MARK = b'<meta name="generator" content="mtaw-fast '
_HEAD = 512  # bytes of a page that contain the mark
_HERE = Path(__file__).parent


def write_report(
    bundle: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    dataset: Dataset | str | os.PathLike[str] | None = None,
    split: Literal["test", "validation"] = "test",
    weights: TypeWeights | None = None,
    slices: Sequence[str] | None = None,
    sessions: int = 5,
    encoder: EncoderName | str = "auto",
    index: IndexName | str = "auto",
    progress: Progress | None = None,
) -> Path:
    """Write a page about a bundle: data, curves, metrics, features, example sessions; return its path.

    out: the HTML file, BUNDLE.html next to the bundle by default; replaces an earlier report. dataset: for metrics with
    intervals next to the baselines, and for example sessions that training never saw; without it the page has the
    validation metrics of the training. split, weights, slices: as in `evaluate`, for the data set. sessions: number of
    examples. encoder, index: as in `Recommender.load`. progress: called as progress(what, done, total).

    Raises UsageError if `out` is a folder or a file that is not a report, or as in `evaluate`; BundleError if the
    bundle is missing or damaged, or the page cannot be written; MissingPackageError without the extra `report`.
    """
    jinja2 = require("jinja2", "report")
    require("matplotlib", "report")
    folder = Path(bundle).resolve()
    path = folder.with_name(f"{folder.name}.html") if out is None else Path(out)
    refuse_foreign(path)
    if weights is not None and dataset is None:
        raise UsageError("report: weights need a data set; give one with --dataset")
    if slices is not None and dataset is None:
        raise UsageError("report: slices need a data set; give one with --dataset")
    if split != "test" and dataset is None:
        raise UsageError(f"report: split={split} needs a data set; give one with --dataset")
    if sessions < 0:
        raise UsageError(f"report: sessions must be at least 0, not {sessions}")
    recommender = Recommender.load(bundle, encoder=encoder, index=index)
    data = Dataset.load(dataset) if isinstance(dataset, (str, os.PathLike)) else dataset
    model = recommender.bundle
    scores = validated(model)
    if data is not None:
        scores = evaluated(recommender, data, split, weights, slices, progress)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("page.html").render(
        version=__version__,
        name=folder.name,
        style=(_HERE / "page.css").read_text(encoding="utf-8"),
        model=model_facts(model),
        data=data_facts(model, data),
        curves=_curves(model),
        phases=phase_rows(model),
        scores=scores,
        features=feature_rows(model),
        examples=examples_of(recommender, data, sessions),
    )
    write_bytes(path, page.encode(errors="xmlcharrefreplace"))  # an id may have half a surrogate pair
    return path


def refuse_foreign(path: Path) -> None:
    """Raise UsageError if the page would replace another file, BundleError if the folder is not writable."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the HTML file to write")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is not a folder; create it, or write the report elsewhere")
    check_writable(path.parent, BundleError)
    if path.exists():
        with path.open("rb") as file:
            if _MARK not in file.read(_HEAD):
                raise UsageError(f"{path} is not a report; choose another file")


def _curves(bundle: Bundle) -> list[dict[str, Any]]:
    """Return an image a panel, in both themes, as data: URLs."""
    history, best = bundle.metrics.get("history") or [], bundle.metrics.get("validation")
    pairs = zip(figures_of(history, best, "light"), figures_of(history, best, "dark"), strict=True)
    return [
        {"light": data_url(light), "dark": data_url(dark), "alt": light.axes[0].get_title()} for light, dark in pairs
    ]


def data_url(figure: Any) -> str:
    """Return a matplotlib figure as a data: URL."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()
