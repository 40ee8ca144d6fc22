"""The whole path of a new product: a table with its row, a training without a click on it, lists that show it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.cli import main
from tests.support.cli import TINY, failure

ITEMS, GROUPS, OLD = 90, 6, 3000
BEGIN = np.datetime64("2026-03-02T00:00:00")


def write_shop(folder: Path) -> list[str]:
    """Write a log whose sessions stay in a group, and return the rows of its table: id, group, date."""
    rng = np.random.default_rng(0)
    clicks = ["session_id,item_id,timestamp"]
    for session in range(600):
        group, length = rng.integers(GROUPS), rng.integers(2, 6)
        places = rng.permutation(ITEMS // GROUPS)[:length]
        begin = BEGIN.astype(int) + 20 * 60 * session
        clicks += [f"s{session},sku-{group + GROUPS * place},{begin + n}" for n, place in enumerate(places.tolist())]
    (folder / "clicks.csv").write_text("\n".join(clicks) + "\n")
    known = [f"sku-{item},group-{item % GROUPS},2025-01-01" for item in range(ITEMS)]
    return [*known, *(f"old-{row},group-{row % GROUPS},2025-06-01" for row in range(OLD))]


@pytest.mark.slow
def test_a_new_product_is_listed_and_old_ones_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, data, bundle = write_shop(tmp_path), str(tmp_path / "dataset"), str(tmp_path / "bundle")

    def write_table(more: list[str], columns: int = 3) -> str:
        lines = ["id,group,created", *rows, *more]
        (tmp_path / "items.csv").write_text("\n".join(",".join(line.split(",")[:columns]) for line in lines) + "\n")
        return str(tmp_path / "items.csv")

    def new_rows(*options: str) -> list[str]:
        capsys.readouterr()
        assert main(["items", bundle, "--new", "--json", *options]) == 0
        return [row["item"] for row in json.loads(capsys.readouterr().out)["items"]]

    def listed(*options: str) -> list[str]:
        capsys.readouterr()
        assert main(["recommend", bundle, "sku-1", "sku-7", "-k", "20", "--json", *options]) == 0
        items: list[str] = json.loads(capsys.readouterr().out)["items"]
        return items

    table = write_table(["today-1,group-1,2026-03-10", "undated,group-1,"])
    kind = ["--item-kind", "group=category", "--new-since", "created"]
    assert main(["prepare", "clicks", f"{tmp_path}/clicks.csv", data, "--test-days", "0", "--items", table, *kind]) == 0
    assert "3,092 rows: 90 of items in the catalog, 1 of new items, 3,001 that wait" in capsys.readouterr().out
    assert main(["train", data, bundle, "--epochs", "1", "--no-refit", *TINY]) == 0
    assert new_rows() == ["today-1"]
    assert "today-1" in listed("--explore", "0.1")
    assert "today-1" in listed()  # by its neighbors too
    for place in ("--learn", "--state"):
        kept = tmp_path / place
        kept.mkdir()
        assert new_rows(place, str(kept)) == ["today-1"]
    # The column stays the one that says what is new.
    table = write_table(["today-1,group-1,2026-03-10", "today-2,group-2,2026-03-11", "never,group-1,2025-01-01"])
    assert main(["items", bundle, table]) == 0
    assert new_rows() == ["today-1", "today-2"]
    # Without dates, the rows that the table before did not have are new, unless they are thousands.
    write_table(["today-1,group-1,", "today-2,group-2,", "never,group-1,", "today-3,group-3,"], columns=2)
    assert main(["items", bundle, table]) == 0
    assert new_rows() == ["today-1", "today-2", "today-3"]
    write_table([*(f"more-{row},group-1," for row in range(OLD)), "today-3,group-3,"], columns=2)
    assert main(["items", bundle, table]) == 0
    assert new_rows() == ["today-3"]
    assert listed("--explore", "0.1")
    assert main(["recommend", bundle, "old-1", "no-row", "sku-1"]) == 0
    assert "waits for a first click: old-1\nnot in the catalog: no-row\n" in capsys.readouterr().out
    learn = ["--learn", str(tmp_path / "--learn"), "--new-since", "created"]
    assert "leave it out" in failure(["items", bundle, table, *learn], 2, capsys)
    assert "--new-since describes the table" in failure(
        ["prepare", "clicks", f"{tmp_path}/clicks.csv", data, "--new-since", "created"], 2, capsys
    )
