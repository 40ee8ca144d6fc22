"""The results of a machine class on one HTML page, without scripts and without network access."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.harness.machine import describe, machine_class
from bench.harness.report import number
from bench.suite.charts import charts_of, figure_of
from bench.suite.results import Row, Run, keyed
from mtaw_fast import __version__
from mtaw_fast.bundle_page import page as bundle_page
from mtaw_fast.errors import DataError, require
from mtaw_fast.storage.files import atomic_path, check_writable, write_bytes


def latest_rows(runs: Sequence[Run]) -> list[Row]:
    """Return the rows of all runs; for the same measurement, the last run's."""
    latest = {key: row for run in runs for key, row in keyed(run.rows)}
    return list(latest.values())


def write_page(runs: Sequence[Run], out: Path) -> list[Path]:
    """Write the page and a PNG of each chart; return the files, the page first.

    Raises UsageError if `out` is another file than such a page, DataError if nothing can be written.
    """
    jinja2 = require("jinja2", "report")
    require("matplotlib", "report")
    bundle_page.refuse_foreign(out)
    check_writable(out.parent, DataError)
    rows, last = latest_rows(runs), runs[-1]
    figures = {chart: figure_of(chart) for chart in charts_of(rows)}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template("page.html").render(
        version=__version__,
        style=(Path(bundle_page.__file__).parent / "page.css").read_text(encoding="utf-8"),
        machine=describe(dict(last.machine)),
        name=machine_class(last.machine),
        runs=[_run_cells(run) for run in reversed(runs)],
        charts=[(chart, bundle_page.data_url(figure)) for chart, figure in figures.items()],
        ratios=[_ratio_cells(row) for row in rows if row["ratio"] is not None],
    )
    pictures = {out.with_name(f"{out.stem}-{chart.slug}.png"): figure for chart, figure in figures.items()}
    for path, figure in pictures.items():
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    write_bytes(out, text.encode())
    return [out, *pictures]


def _run_cells(run: Run) -> dict[str, str]:
    return {
        "file": run.path.name,
        "date": run.at[:10],
        "commit": run.commit or "no commit",
        "kind": "quick" if run.quick else "full",
        "load": str(run.machine.get("load_average", "not said")),
        "rows": f"{len(run.rows):,}",
    }


def _ratio_cells(row: Row) -> dict[str, str]:
    return {
        "case": f"{row['bench']} {row['case']}",
        "params": ", ".join(f"{name} {value}" for name, value in row["params"].items()),
        "p50": f"{number(row['p50'])} {row['metric'].replace('latency_', '')}",
        "baseline": str(row["baseline"]),
        "ratio": f"{row['ratio']:.2f}",
        "ends": "" if row.get("ratio_low") is None else f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}",
        "limit": "" if row["floor"] is None else f"{row['floor'] / row['p50']:.0%}",
    }
