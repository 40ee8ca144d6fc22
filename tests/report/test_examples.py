"""Example sessions show what the item table knows."""

from __future__ import annotations

from pathlib import Path

from mtaw_fast.recommender import Recommender
from mtaw_fast.report.examples import examples_of
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts


def test_titles_and_pictures_of_items(tmp_path: Path) -> None:
    save_parts(tmp_path / "b", **bundle_parts(n_items=60), **memory_parts(60))
    rec = Recommender.load(tmp_path / "b")
    plain = examples_of(rec, None, 2)["shown"]
    assert all(row["item"] | {"title": "", "image": ""} == {"id": row["item"]["title"], "title": "", "image": ""}
               for example in plain for row in example["rows"])  # fmt: skip
    picture = "https://shop.example/1.jpg"
    rows = [
        {"id": f"sku-{i}", "title": f"Shoe <{i}>", "image": picture if i % 2 else "javascript:x"} for i in range(59)
    ]
    rec.set_items(rows)
    for example in examples_of(rec, None, 2)["shown"]:
        for look in [*(row["item"] for row in example["rows"]), *example["clicks"], example["target"]]:
            number = int(look["id"].removeprefix("sku-"))
            known = number < 59
            assert look["title"] == (f"Shoe <{number}>" if known else "sku-59")
            assert look["image"] == (picture if known and number % 2 else "")
