"""Damaged bundles end alike in Python and in C: opened by both, or refused by both in the same line.

Every damage but those of hashes and sizes is resealed, that is, the manifest states its hash and size: so the checks
behind these run too. `pytest -s` prints how many damages of each kind there are, and how they end.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.items import ContentVectors
from mtaw_fast.items.content_features import ContentFeatures
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.storage.tensor_file import map_tensors
from tests.support.endings import endings
from tests.support.random_bundle import save_random
from tests.support.ranking.typed_model import typed_model

Damage = tuple[str, str, dict[str, bytes | None]]  # kind, name, the files that it changes; None: removed
Arrays = dict[str, np.ndarray]
# Kinds of which some may open: values that mean something else, and what nothing reads.
MAY_OPEN = {"value", "more arrays", "text"}
LISTS = {"learned removed", "learned hidden"}  # of any length
ABOUT = {"item_table": "about", "content": "about", "learned": "about", "context": "columns"}  # JSON in arrays


class Files:
    """A bundle's files by name, and its manifest."""

    def __init__(self, folder: Path) -> None:
        self.bytes = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.manifest = json.loads(self.bytes["manifest.json"])
        self.names = {part: entry["file"] for part, entry in self.manifest["files"].items()}
        self.arrays = {part: {**map_tensors(folder / name)} for part, name in self.names.items()}

    def copied_manifest(self) -> dict[str, Any]:
        copy: dict[str, Any] = json.loads(self.bytes["manifest.json"])
        return copy

    def resealed(self, part: str, data: bytes) -> dict[str, bytes | None]:
        manifest = self.copied_manifest()
        manifest["files"][part].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        return {self.names[part]: data, "manifest.json": json.dumps(manifest).encode()}

    def written(self, part: str, arrays: Arrays) -> dict[str, bytes | None]:
        return self.resealed(part, save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def of_bytes(files: Files) -> Iterator[Damage]:
    """Yield damages of whole files."""
    for part, name in files.names.items():
        data = files.bytes[name]
        length = int.from_bytes(data[:8], "little")
        flipped = bytearray(data)
        flipped[-4] ^= 1
        yield "hash", part, {name: bytes(flipped)}
        yield "size", f"{part} cut", {name: data[:-9]}
        yield "size", f"{part} longer", {name: data + b"\0" * 8}
        yield "missing file", part, {name: None}
        for what, changed in (
            ("cut", data[:-9]), ("longer", data + b"\0" * 8), ("empty", b""), ("header alone", data[: 8 + length]),
            ("long header", (2**40).to_bytes(8, "little") + data[8:]),
            ("no JSON", data[:8] + b"[" + data[9:]), ("unknown type", data.replace(b'"dtype":"', b'"dtype":"X', 1)),
        ):  # fmt: skip
            yield "container", f"{part} {what}", files.resealed(part, changed)


def of_arrays(files: Files) -> Iterator[Damage]:
    """Yield damages of single arrays: name, type, shape and values."""

    def changed(part: str, arrays: Arrays) -> dict[str, bytes | None]:
        return files.written(part, arrays)

    for part, arrays in files.arrays.items():
        yield "more arrays", part, changed(part, {**arrays, "extra": np.zeros(3)})
        for name, array in arrays.items():
            label = f"{part} {name}"
            rest = {key: value for key, value in arrays.items() if key != name}
            yield "missing array", label, changed(part, rest)
            wider = np.float64 if array.dtype != np.float64 else np.float32
            yield "type", label, changed(part, {**rest, name: array.astype(wider)})
            yield "axes", label, changed(part, {**rest, name: array[None]})
            if array.size:
                yield "length", label, changed(part, {**rest, name: array[:-1]})
            for value in values_for(array.dtype) if array.size else ():
                edited = array.copy()
                edited.flat[-1] = value
                yield "value", f"{label} {value}", changed(part, {**rest, name: edited})
        for what, value in texts_for(arrays.get(ABOUT.get(part, ""))):
            text = np.frombuffer(json.dumps(value).encode(), np.uint8)
            yield "text", f"{part} {what}", changed(part, {**arrays, ABOUT[part]: text})


def values_for(dtype: np.dtype) -> list[Any]:
    if dtype.kind == "f":
        return [np.nan, np.inf, -1.0]
    limits = np.iinfo(dtype)
    return [limits.min, limits.max] if dtype != np.uint8 else []


def texts_for(stored: np.ndarray | None) -> Iterator[tuple[str, Any]]:
    """Yield JSON that differs from a stored one in a member: gone, or of another type."""
    if stored is None:
        return
    about = json.loads(stored.tobytes())
    yield "of another type", 5
    first = about if isinstance(about, dict) else about[0]
    yield "with another member", {**about, "hologram": 1} if isinstance(about, dict) else [first, first]
    for name, value in list(first.items()):
        del first[name]
        yield f"without {name}", about
        for odd in (None, "x", -1, [7], {"x": 1}):
            first[name] = odd
            yield f"{name}={odd}", about
        first[name] = value


def of_manifest(files: Files) -> Iterator[Damage]:
    """Yield damages of the manifest."""

    def edited(path: str, value: Any) -> dict[str, bytes | None]:
        manifest = files.copied_manifest()
        *parents, last = path.split("/")
        place = manifest
        for parent in parents:
            place = place[parent]
        if value is None:
            del place[last]
        else:
            place[last] = value
        return {"manifest.json": json.dumps(manifest).encode()}

    text = files.bytes["manifest.json"]
    for what, data in (("gone", None), ("empty", b""), ("cut", text[:-3]), ("a list", b"[]"), ("deep", b"[" * 10**5)):
        yield "manifest", what, {"manifest.json": data}
    for version in (1, 2, 5, 10**30, "3\n", 3.5, [3]):
        yield "format", str(version), edited("format_version", version)
    for name in ("format", "format_version", "n_items", "d", "config", "files", "metrics", "dataset"):
        yield "manifest", f"without {name}", edited(name, None)
        yield "manifest", f"{name} of another type", edited(name, [1])
    for name, value in (("n_items", 0), ("n_items", -5), ("n_items", "a\u2028b"), ("d", 7), ("n_items", 3)):
        yield "manifest", f"{name}={value}", edited(name, value)
    for part in files.names:
        if part not in ("scan", "item_table", "content", "times", "types", "learned"):  # a bundle may lack these
            yield "missing part", part, edited(f"files/{part}", None)
        for name in ("file", "sha256"):
            yield "manifest", f"{part} without {name}", edited(f"files/{part}/{name}", None)
        for path in ("../x", "sub/x", "/etc/passwd", "a..b", "a\\b", "a\n", ".x", "", 5):
            yield "path", f"{part} {path}", edited(f"files/{part}/file", path)
        yield "size", f"{part} -1", edited(f"files/{part}/bytes", -1)
    yield "manifest", "a file that is gone", edited("files/more", {"file": "gone.bin", "sha256": "0"})
    yield from of_settings(edited)


def of_settings(edited: Any) -> Iterator[Damage]:
    """Yield settings that no release has, or this one refuses."""
    yield "setting", "group", edited("config/hologram", {"x": 1})
    for group, settings in Config().as_dict().items():
        yield "setting", group, edited(f"config/{group}", 3)
        yield "setting", f"{group} unknown", edited(f"config/{group}/hologram", 1)
        for name, value in settings.items():
            odd: list[Any] = [[5], 0.5] if isinstance(value, str) else ["x", True if type(value) is int else -2.5]
            for wrong in odd:
                yield "setting", f"{name}={wrong}", edited(f"config/{group}/{name}", wrong)
    for path, value in (
        ("model/embedding_dim", 1 << 20), ("model/recent_weight", 0.001), ("model/scale", 0), ("model/init", "odd"),
        ("loss/type_weights", "view"), ("loss/type_weights", "a=1,a=2"), ("loss/type_weights", "a=1e99"),
        ("memory/half_lives", "1m"), ("memory/half_lives", "1m,5m,15m,1h,4h,24h,7x"), ("ranker/ranker_fraction", 1.0),
        ("ranker/excluded_features", "nothing"), ("optimizer/seed", -1), ("model/dropout", float("nan")),
    ):  # fmt: skip
        yield "setting", f"{path}={value}", edited(f"config/{path}", value)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Files]:
    """One with every part, and one whose ids are numbers."""
    folder = tmp_path_factory.mktemp("whole")
    model = typed_model()
    assert model.memory is not None
    d = model.config.model.embedding_dim
    columns = {"name": "stock", "kind": "boolean"}, {"name": "price", "kind": "number", "edges": [2.0]}
    model = replace(
        model,
        log_progress=LogProgress("log", "0", removed=np.array([7], np.int32), hidden=np.array([3], np.int32)),
        content=ContentVectors(ContentFeatures(columns), np.ones((4, d), np.float32), 2.0, {}),
        types=np.zeros(len(model.memory.session_items), np.uint8),
    )
    Bundle.save(folder / "all", model, metrics={}, dataset={})
    save_random(folder / "numbers", n_items=20, max_session_length=6, text=False)
    return [Files(folder / "all"), Files(folder / "numbers")]


@pytest.mark.slow
def test_python_and_c_end_alike(bundles: list[Files], tmp_path: Path) -> None:
    table: Counter[tuple[str, str]] = Counter()
    different, wrongly_opened = [], []
    for files in bundles:
        folder = tmp_path / f"bundle-{len(files.names)}"
        folder.mkdir()
        for name, data in files.bytes.items():
            (folder / name).write_bytes(data)
        assert [endings(folder, verify) for verify in (True, False)] == [("", "")] * 2
        damages = [*of_bytes(files), *of_arrays(files), *of_manifest(files)]
        for kind, what, changes in damages:
            for name, changed in changes.items():
                (folder / name).unlink() if changed is None else (folder / name).write_bytes(changed)
            opened = []
            for verify in (True, False):
                python, c = endings(folder, verify)
                if python != c or len(python.splitlines()) > 1:
                    different.append((kind, what, verify, python, c))
                opened.append(not python)
            table[kind, "opened" if opened[0] else "opened without verification" if opened[1] else "refused"] += 1
            if opened[0] and kind not in MAY_OPEN and what not in LISTS:
                wrongly_opened.append((kind, what))
            for name in changes:
                (folder / name).write_bytes(files.bytes[name])
    for (kind, end), count in sorted(table.items()):
        print(f"{count:5} {kind}: {end}")
    print(f"{sum(table.values()):5} damages, {len(different)} ends differ")
    assert different == []
    assert wrongly_opened == []
    assert sum(table.values()) > 1000
