"""Every figure of README and docs has a record, or stands on the list of those without one."""

from __future__ import annotations

import json

from bench.suite.figures import LIST, ROOT, SECTIONS, Records, figures, recorded, without_record


def test_a_figure_without_a_record_is_on_the_list() -> None:
    """A new figure needs a record; one that got it, or left, leaves the list too."""
    listed = json.loads((ROOT / LIST).read_text(encoding="utf-8"))
    assert without_record(ROOT) == listed, "see python -m bench.suite.figures"


def test_the_results_in_the_readme_have_records() -> None:
    known = recorded(ROOT)
    found = figures((ROOT / "README.md").read_text(encoding="utf-8"))["Results"]
    assert len(found) > 15
    assert [one for one in found if one not in known] == []


def test_what_counts_as_a_figure() -> None:
    page = "\n".join([
        "# One", "**53.80 / 24.13** and 36.26 ± 0.10 [34.94, 37.62], `1.5`, Python 3.11, [a](b1.2), version 1.2.3.",
        "```console", "run --lr 0.5", "```", "    pip install x==1.2", "## Two", "takes 1,234.5 ms.",
        "<!-- peers tmall quality -->", "| 9.99 |", "<!-- end -->",
    ])  # fmt: skip
    assert figures(page) == {"One": ["53.80 / 24.13", "36.26 ± 0.10", "[34.94, 37.62]"], "Two": ["1,234.5"]}


def test_a_sign_belongs_to_its_figure() -> None:
    page = "lost -0.77 / -0.20, gained +0.04 [-0.01, +0.09], of 1.5..2.5, Apache-2.0, 1.5-fold"
    assert figures(page) == {"": ["-0.77 / -0.20", "+0.04", "[-0.01, +0.09]", "1.5"]}


def test_a_changed_figure_is_found() -> None:
    known = recorded(ROOT)
    assert "53.80 / 24.13" in known
    assert "53.81 / 24.13" not in known


def test_a_figure_counts_in_its_section_alone() -> None:
    """A number of another bench or set is no record, however likely it is to match."""
    records = Records(ROOT)
    assert "53.80 / 24.13" in records.of("test")
    assert "53.80 / 24.13" not in records.of("validation") | records.of("bench retrieval") | records.of("by-hand")
    headings = {name: figures((ROOT / name).read_text(encoding="utf-8")) for name in SECTIONS}
    listed = json.loads((ROOT / LIST).read_text(encoding="utf-8"))
    unknown = {(name, one) for name, page in headings.items() for one in page if one not in SECTIONS[name]}
    assert {(name, one) for name, page in listed.items() for one in page} >= unknown


def test_a_change_of_one_setting_is_a_signed_record() -> None:
    """The sampled softmax on Tmall, against the full one."""
    assert "-0.15 / +0.02" in Records(ROOT).of("changes")
    assert "+0.15 / -0.02" not in Records(ROOT).of("changes")
