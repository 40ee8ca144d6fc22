"""Damage to a bundle's files: the kinds that a bad disk, a bad copy, a foreign writer or a liar would make."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.storage.tensor_file import _DTYPES

Files = dict[str, bytes]

_HUGE = "a number of five thousand digits"  # json.dumps refuses to write one
_ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 63, 64, 65, 2**31, 2**32, 2**62, 2**63, 2**64, 10**30, 0.5, 12.0, -0.0, 1e308,
    float("nan"), float("inf"), "", "F32", "I64", "F64", "U8", "x" * 300, "a\nb", "a\r", "\ud800", "\u2028", "../x",
    "/etc/passwd", ".", [], [0], [1] * 70, [0, 2**70], [10**40] * 2000, [-1, 5], {}, {"a": 1}, [[[[]]]], _HUGE,
)  # fmt: skip


def mutated(rng: Random, files: Files, others: Sequence[Files] = ()) -> Files:
    """A copy of the bundle `files` (contents by name) with one to three mutations.

    Now and then one of its parts is that of another bundle, of `others`. In half of the cases the manifest's hashes
    are made to fit again, so that the code behind these checks runs too.
    """
    files = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_MUTATIONS)(rng, files)
    if others and rng.random() < 0.1:
        _borrow(rng, files, rng.choice(others))
    if rng.random() < 0.5:
        _seal(files)
    return files


def spoil(rng: Random, folder: Path) -> None:
    """Make one of a bundle's files something that is no file of its size: it must be refused without a look inside."""
    path = rng.choice(sorted(folder.iterdir()))
    choice = rng.randrange(6)
    if choice == 0:
        os.truncate(path, 1 << 40)  # sparse: a terabyte on no disk
        return
    path.unlink()
    if choice == 1:
        os.mkfifo(path)
    elif choice == 2:
        path.mkdir()
    elif choice == 3:
        path.symlink_to(path)
    elif choice == 4:
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to("/proc/self/mem")


def _borrow(rng: Random, files: Files, other: Files) -> None:
    """Put a part of another bundle in the place of the like one."""
    name = _some_file(rng, files, tensors=True)
    kind = "" if name is None else name.partition("-")[0]
    alike = sorted(file for file in other if file.partition("-")[0] == kind)
    if name is not None and alike:
        files[name] = other[alike[0]]


def _some_file(rng: Random, files: Files, tensors: bool = False) -> str | None:
    names = sorted(name for name in files if not tensors or name != MANIFEST)
    return rng.choice(names) if names else None


def _flip(rng: Random, files: Files) -> None:
    """Change a few bytes anywhere."""
    name = _some_file(rng, files)
    if name is None or not files[name]:
        return
    data = bytearray(files[name])
    limit = rng.choice((8, 400, len(data)))
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(min(limit, len(data)))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    files[name] = bytes(data)


def _resize(rng: Random, files: Files) -> None:
    """Cut a file short, or add to it."""
    name = _some_file(rng, files)
    if name is not None:
        data = files[name]
        end = rng.choice((0, 1, 7, 8, 9, len(data) - 1, rng.randrange(len(data) + 1)))
        files[name] = rng.choice((data[:end], data + b"\0" * end, data[end:]))


def _swap(rng: Random, files: Files) -> None:
    """Exchange the contents of two files."""
    first, second = _some_file(rng, files), _some_file(rng, files)
    if first is not None and second is not None:
        files[first], files[second] = files[second], files[first]


def _lose(rng: Random, files: Files) -> None:
    name = _some_file(rng, files)
    if name is not None:
        del files[name]


def _ids(rng: Random, files: Files) -> None:
    """Give an item the id of another, or a text that is none."""
    name = next((file for file in sorted(files) if file.startswith("items-")), None)
    begin = -1 if name is None else files[name].find(b"sku-1")
    if name is not None and begin >= 0:
        text = rng.choice((b"sku-2", b"\xff" * 5, b"\xc3sku-"))
        files[name] = files[name][:begin] + text + files[name][begin + 5 :]


def _edit_manifest(rng: Random, files: Files) -> None:
    """Change the manifest's JSON somewhere."""
    if MANIFEST in files:
        files[MANIFEST] = _edited(rng, files[MANIFEST])


def _edit_header(rng: Random, files: Files) -> None:
    """Change a tensor file's JSON header somewhere, at times without telling its length."""
    name = _some_file(rng, files, tensors=True)
    if name is None:
        return
    header, data = _split(files[name])
    edited = _edited(rng, header)
    if rng.random() < 0.5:  # keep the data where it was
        edited = edited.ljust(len(header))
    length = len(edited) if rng.random() < 0.9 else rng.choice((0, len(edited) - 1, 2**20, 2**63, 2**64 - 1))
    files[name] = max(length, 0).to_bytes(8, "little") + edited + data


def _lie(rng: Random, files: Files) -> None:
    """Change what an array holds, leaving its place, type and shape."""
    name = _some_file(rng, files, tensors=True)
    if name is None:
        return
    header, data = _split(files[name])
    entries = _parsed(header)
    if not isinstance(entries, dict) or not entries:
        return
    entry = entries[rng.choice(sorted(entries))]
    try:
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], _DTYPES[entry["dtype"]]).copy()
    except (KeyError, TypeError, ValueError):
        return
    if not len(values):
        return
    if values.dtype.kind == "f":
        numbers = np.array([np.nan, np.inf, -np.inf, 0, -1, 1, 1e-45, 1e38, -1e38, 255, -255, 2**63])
        with np.errstate(over="ignore"):  # beyond half floats
            extremes: list[Any] = list(numbers.astype(values.dtype))
    else:
        extremes = [v for v in (-1, 0, 1, 59, 60, 61, 128, 255, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
               if np.iinfo(values.dtype).min <= v <= np.iinfo(values.dtype).max]  # fmt: skip
    choice = rng.randrange(6)
    if choice == 0:
        values[:] = extremes[rng.randrange(len(extremes))]
    elif choice == 1:
        values = values[::-1].copy()
    elif choice == 2:
        values = np.frombuffer(rng.randbytes(values.nbytes), values.dtype)
    else:
        for _ in range(rng.randint(1, 1 + len(values) // 4)):
            values[rng.randrange(len(values))] = extremes[rng.randrange(len(extremes))]
    files[name] = len(header).to_bytes(8, "little") + header + data[:begin] + values.tobytes() + data[end:]


_MUTATIONS: tuple[Callable[[Random, Files], None], ...] = (
    _flip, _resize, _swap, _lose, _edit_manifest, _edit_manifest, _edit_header, _edit_header, _lie, _lie, _lie, _ids,
)  # fmt: skip


def _seal(files: Files) -> None:
    """Make the manifest's hashes those of the files."""
    manifest = _parsed(files.get(MANIFEST, b""))
    try:
        for entry in manifest["files"].values():
            entry["sha256"] = hashlib.sha256(files[entry["file"]]).hexdigest()
            entry["bytes"] = len(files[entry["file"]])
    except (AttributeError, KeyError, TypeError):
        return
    files[MANIFEST] = _dumped(manifest)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The header of a tensor file and what follows it."""
    length = min(int.from_bytes(data[:8], "little"), len(data))
    return data[8 : 8 + length], data[8 + length :]


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _dumped(value: Any) -> bytes:
    return json.dumps(value).replace(f'"{_HUGE}"', "9" * 5000).encode("utf-8", "surrogatepass")


def _edited(rng: Random, text: bytes) -> bytes:
    """JSON text with a node replaced, removed, doubled, renamed or nudged."""
    tree = _parsed(text)
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            visit(node[key])

    visit(tree)
    if not places:
        return _dumped(rng.choice(_ODD))
    parent, key = rng.choice(places)
    choice = rng.randrange(6)
    if choice == 0:
        del parent[key]
    elif choice == 1 and isinstance(parent[key], int):
        parent[key] += rng.choice((-64, -8, -4, -1, 1, 3, 4, 8, 64, parent[key]))
    elif choice == 2:
        source = rng.choice(places)
        parent[key] = json.loads(json.dumps(source[0].get(source[1]) if isinstance(source[0], dict) else source[0]))
    elif choice == 3 and isinstance(parent, dict):
        parent[rng.choice(("x", "", "__metadata__", "a\nb", "scan", "catalog", "blob"))] = parent.pop(key)
    elif choice == 4 and isinstance(parent, list):
        parent.insert(key, rng.choice((0, 1, parent[key])))
    else:
        parent[key] = rng.choice(_ODD)
    return _dumped(tree) if rng.random() < 0.95 else b"[" * 100_000
