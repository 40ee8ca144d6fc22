"""Read an item table from a file or a frame. Files need polars, which is imported here on demand."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, require, shown
from mtaw_fast.items.changes import TableChange
from mtaw_fast.items.frame import NAME_IT, ItemFrame, refuse_twice
from mtaw_fast.items.table import ItemTable
from mtaw_fast.items.values import OF_LABELS

_WHOLE = re.compile(r"-?[0-9]{1,19}")
_TAB_SEPARATED = (".tsv", ".tab", ".tsv.gz", ".tab.gz", ".tsv.zst", ".tab.zst")
_JSON = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
_PARQUET = (".parquet", ".pq")


def read_change(
    source: Any,
    id_kind: str,
    mode: str = "replace",
    *,
    before: ItemTable | None = None,
    id: str = "id",
    kinds: Mapping[str, str] | None = None,
    public: Sequence[str] | None = None,
    availability: str | None = None,
    new_since: str | None = None,
) -> TableChange:
    """Read a table and return it as a change of the item table.

    source: a file ends in .parquet, .jsonl or .tsv; any other is CSV. Text may be compressed (.jsonl.gz, .tsv.gz).
    id_kind: {'int', 'str'}, the type of the catalog's ids; ids of the other type are converted, if that loses nothing.
    mode, before, id, kinds, public, availability, new_since: as in `TableChange.of`.

    Raises DataError if the file cannot be read, or a value, an id or a kind does not fit: one line with column and row;
    UsageError on a wrong option; MissingPackageError if a file needs polars, and it is not installed.
    """
    where, path, kept = "items", Path(), {} if before is None else before.kinds
    if isinstance(source, (str, os.PathLike)):
        where, path = str(source), Path(source)
        source = _read_file(path, id, {**kept, **(kinds or {})})
    frame = ItemFrame.of(source, id=id, kinds=kinds or {}, kept=kept, where=where)
    given = frame.given
    if mode == "patch" and path.name.lower().endswith(_JSON):
        given = _given(path, frame.columns)
    frame = ItemFrame(_converted(frame.ids, id_kind, f"{where}: column {id!r}"), frame.columns, given)
    return TableChange.of(
        frame, mode, before=before, kinds=kinds, public=public, availability=availability, new_since=new_since,
        where=where,
    )  # fmt: skip


def _read_file(path: Path, id: str, kinds: Mapping[str, str]) -> Any:
    """Return a polars frame, in which declared or kept labels of a CSV are texts.

    Raises DataError if the file cannot be read, UsageError without the column of ids.
    """
    pl = require("polars", "train")
    name = path.name.lower()
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file; name a CSV, Parquet or JSON lines file")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; an item table needs a header and at least one item")
        if name.endswith(_PARQUET):
            return pl.read_parquet(path, glob=False)
        if name.endswith(_JSON):
            # Bytes: polars takes any path as a pattern, and a byte order mark for a part of the first line.
            return pl.read_ndjson(_json_of(path), infer_schema_length=None)
        separator = "\t" if name.endswith(_TAB_SEPARATED) else ","
        header = pl.read_csv(path, separator=separator, n_rows=0, glob=False).columns
        renamed = [name for name in header if f"{name}_duplicated_0" in header]  # as polars names a second one
        refuse_twice([*header, *renamed], str(path))
        if id not in header:
            raise UsageError(
                f"{path}: there is no column {id!r} of item ids; {NAME_IT} (columns: {', '.join(header)[:200]})"
            )
        # Ids and labels stay text: as numbers, 007 would become 7.
        labels = [name for name, kind in kinds.items() if kind in OF_LABELS and name in header]
        overrides = dict.fromkeys([id, *labels], pl.String)
        frame = pl.read_csv(  # a quoted "" is missing too, and no text that makes a column of numbers one of texts
            path, separator=separator, infer_schema_length=None, schema_overrides=overrides, null_values="", glob=False
        )
        # Some programs write whole numbers next to missing ones as 5.0.
        whole = pl.col(labels).str.contains(r"^-?[0-9]+\.0$").all()
        return frame.with_columns(pl.when(whole).then(pl.col(labels).str.strip_suffix(".0")).otherwise(pl.col(labels)))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise DataError(f"{path} cannot be read as an item table ({reason}); fix or export it again") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path} ({getattr(error, 'strerror', None) or error}); check the file") from None


def _json_of(path: Path) -> bytes:
    """Return the JSON lines of a file, unpacked and without a byte order mark."""
    data = path.read_bytes()
    return (gzip.decompress(data) if path.name.lower().endswith(".gz") else data).removeprefix(codecs.BOM_UTF8)


def _given(path: Path, columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return `ItemFrame.given` of JSON lines: polars makes null of a value that a line does not have."""
    rows = [json.loads(line).keys() & columns.keys() for line in _json_of(path).split(b"\n") if line.strip()]
    masks = {name: np.array([name in row for row in rows], dtype=bool) for name in columns}
    return {name: mask for name, mask in masks.items() if not mask.all()}


def _converted(ids: list[Any], kind: str, where: str) -> list[Any]:
    """Return ids as ints or texts, whatever they were. Raises DataError on the first that is no whole number."""
    if not ids or isinstance(ids[0], int) == (kind == "int"):
        return ids
    if kind == "str":
        return list(map(str, ids))
    for row, text in enumerate(ids):
        if not (_WHOLE.fullmatch(text) and str(int(text)) == text and -(2**63) <= int(text) < 2**63):
            raise DataError(f"{where}, row {row + 1}: {shown(text, 60)} is not an id; this catalog's item ids are int")
    return list(map(int, ids))
