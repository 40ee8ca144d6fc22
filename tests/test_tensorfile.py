"""Tensor files: what the format's own library reads back, aligned, and whole or absent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mtaw_fast.tensorfile import map_tensors, write_tensors

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


def test_a_type_without_a_name_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        write_tensors(tmp_path / "file", {"a": np.zeros(3, np.complex64)})
    assert list(tmp_path.iterdir()) == []
