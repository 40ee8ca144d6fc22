"""Every figure of README and docs has a record, or stands on the list of those without one."""

from __future__ import annotations

import json

from bench.suite.figures import LIST, ROOT, SECTIONS, Records, figures, without_record
from bench.suite.tables import blocks


def test_a_figure_without_a_record_is_on_the_list() -> None:
    """A new figure needs a record; one that got it, or left, leaves the list too."""
    listed = json.loads((ROOT / LIST).read_text(encoding="utf-8"))
    assert without_record(ROOT) == listed, "see python -m bench.suite.figures"


def test_every_section_with_sources_has_figures() -> None:
    """A heading that was renamed, or is gone, is found here."""
    texts = blocks()
    for name, sections in SECTIONS.items():
        assert sections.keys() <= figures((ROOT / name).read_text(encoding="utf-8"), texts).keys(), name


def test_what_counts_as_a_figure() -> None:
    page = "\n".join([
        "# One", "**53.80 / 24.13** and 36.26 ± 0.10 [34.94, 37.62], `1.5`, Python 3.11, [a](b1.2), version 1.2.3.",
        "```console", "run --lr 0.5", "```", "    pip install x==1.2", "## Two", "takes 1,234.5 ms.",
        "```text", "P@20 77.02", "```", "- a list", "    - with 66.50 / 5.25", "      and 7.50", "",
        "<!-- prose: ignore -->", "is 1.25 or", "<!-- peers tmall quality -->", "| 9.99 |", "<!-- end -->",
        "<!-- not made -->", "| 8.75 |", "<!-- end -->",
    ])  # fmt: skip
    assert figures(page, {"peers tmall quality"}) == {
        "One": ["53.80 / 24.13", "36.26 ± 0.10", "[34.94, 37.62]"],
        "Two": ["1,234.5", "77.02", "66.50 / 5.25", "7.50", "1.25", "8.75"],
    }


def test_a_sign_belongs_to_its_figure() -> None:
    page = "lost -0.77 / -0.20, gained +0.04 [-0.01, +0.09], of 1.5..2.5, Apache-2.0, 1.5-fold"
    assert figures(page, ()) == {"": ["-0.77 / -0.20", "+0.04", "[-0.01, +0.09]", "1.5"]}


def test_a_figure_counts_in_its_section_alone() -> None:
    """A number of another set is no record, however likely it is to match."""
    records = Records(ROOT)
    assert "53.80 / 24.13" in records.of("test")
    assert "53.81 / 24.13" not in records.of("test")
    assert "53.80 / 24.13" not in records.of("validation") | records.of("by-hand")


def test_a_figure_whose_epoch_the_test_set_chose_is_none_of_the_test_sets() -> None:
    """`paper-literal` on Tmall: held out, and under the leak."""
    records = Records(ROOT)
    assert "33.39 / 17.75" in records.of("test")
    assert "33.39 / 17.75" not in records.of("leaking test")
    assert "35.60 / 17.87" in records.of("leaking test")
    assert "35.60 / 17.87" not in records.of("test")


def test_the_best_seed_does_not_stand_for_the_mean() -> None:
    """The run of 39.21 / 22.33 has two more seeds."""
    records = Records(ROOT)
    assert "39.21 / 22.33" not in records.of("validation")
    assert records.of("run tmall-paper-literal-31c6e89a-validation-seed0") == {"39.21 / 22.33"}
