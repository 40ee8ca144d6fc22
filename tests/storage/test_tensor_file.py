"""Tensor files: readable by the format's own library, aligned, and whole or absent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mtaw_fast.errors import DataError
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
SHAPES = st.lists(st.integers(0, 70), max_size=3).map(tuple)


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.tuples(st.sampled_from(DTYPES), SHAPES), max_size=6), seed=st.integers(0, 99))
def test_both_readers_give_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[tuple[str, tuple[int, ...]]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    arrays = {}
    for number, (dtype, shape) in enumerate(kinds):
        arrays[f"array {number} \N{SNOWMAN}"] = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    path = tmp_path_factory.mktemp("tensors") / "file.safetensors"
    write_tensors(path, arrays)
    mapped = map_tensors(path)
    for read in (mapped, load_file(path)):
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
            assert read[name].tobytes() == array.tobytes()
    for array in mapped.values():
        if array.size:
            assert array.ctypes.data % (64 if array.nbytes % 64 == 0 else array.itemsize) == 0
            assert not array.flags.writeable


def test_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    wide = np.arange(60, dtype=np.float32).reshape(6, 10)
    write_tensors(tmp_path / "file", {"t": wide.T, "s": wide[::2, 1::3]})
    read = map_tensors(tmp_path / "file")
    assert read["t"].tolist() == wide.T.tolist()
    assert read["s"].tolist() == wide[::2, 1::3].tolist()


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Change the header of `path`."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


BYTES = {"dtype": "U8", "shape": [24], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h["a"].update(data_offsets=[4, 24]), "a tensor extends past the end of the file"),
        (lambda h: h["a"].update(data_offsets=[0, 2**70]), "negative or fractional sizes"),
        (lambda h: h["a"].update(shape=[-6]), "negative or fractional sizes"),
        (lambda h: h["a"].update(shape=[6.0]), "negative or fractional sizes"),
        (lambda h: h["a"].update(shape=[1] * 33 + [6]), "a tensor with too many axes"),
        (lambda h: h["a"].update(shape=[10**40] * 20_000), "a tensor with too many axes"),
        (
            lambda h: h.update(a={**h["a"], "shape": [0, 2**70], "data_offsets": [0, 0]}, b=BYTES),
            "negative or fractional sizes",
        ),
        (
            lambda h: h.update(a={**h["a"], "shape": [0, 2**40, 2**40], "data_offsets": [0, 0]}, b=BYTES),
            "a tensor extends past the end of the file",
        ),
        (lambda h: h.update(a={**h["a"], "shape": [5], "data_offsets": [1, 21]}, b=BYTES), "multiple of its item size"),
        (lambda h: h["a"].update(shape=[5], data_offsets=[0, 20]), "4 bytes more than its header describes"),
        (lambda h: h["a"].update(dtype="x\n" * 1000), "a tensor of an unknown type"),
        (lambda h: h["a"].pop("dtype"), "a tensor without type, shape or offsets"),
        (lambda h: h.update(a=[]), "a tensor without type, shape or offsets"),
    ],
)
def test_wrong_headers_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], reason: str) -> None:
    write_tensors(tmp_path / "file", {"a": np.arange(6, dtype=np.float32)})
    with pytest.raises(DataError, match=reason) as caught:
        map_tensors(edited(tmp_path / "file", change))
    assert "\n" not in str(caught.value)


def test_a_type_without_a_name_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_tensors(tmp_path / "file", {"a": np.zeros(3, np.complex64)})
    assert list(tmp_path.iterdir()) == []
