"""A checkpoint of all processes in one file, the same that one process writes: each writes and reads its own rows.

So a run may go on with another number of processes, or with one alone, and no process ever holds the whole. The run's
folder must be the same for all, on one machine or on a file system that they share.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mtaw_fast.errors import TrainingError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.storage.files import atomic_path
from mtaw_fast.storage.tensor_file import map_tensors, places_in_file
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.group.shards import Shards
from mtaw_fast.training.group.step import GroupStepper
from mtaw_fast.training.steps.adam_state import MOMENTS

_TABLE = "item_embedding"
_BYTES_AT_ONCE = 64 << 20  # that come from a device to be written


def save_shards(
    path: Path, model: MTAW, stepper: GroupStepper | None, shards: Shards, process_group: ProcessGroup
) -> None:
    """Write weights and, with a stepper, Adam's moments; the file is whole or not there.

    Returns once it is there. Raises an error where this process cannot write, GroupError where another one cannot.
    """
    tensors: dict[str, Tensor] = {f"weight.{name}": value.detach() for name, value in model.named_parameters()}
    if stepper is not None:
        tensors |= stepper.moments()
    by_rows = [name for name, tensor in tensors.items() if _is_table(name) and tensor.ndim == 2]
    shapes = {
        name: (np.dtype(np.float32), (shards.n_items, tensor.shape[1]) if name in by_rows else tuple(tensor.shape))
        for name, tensor in tensors.items()
    }
    head, places, length = places_in_file(shapes)
    first_row = shards.rows(process_group.rank).start
    own = {name: tensor for name, tensor in tensors.items() if name in by_rows or process_group.leads}

    def write(temporary: Path) -> None:
        descriptor = os.open(temporary, os.O_WRONLY)
        try:
            for name, tensor in own.items():
                begin = places[name] + (first_row * tensor.shape[1] * 4 if name in by_rows else 0)
                for data in _pieces(tensor):
                    _write_at(descriptor, data, begin)
                    begin += data.nbytes
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    if not process_group.leads:
        write(path.with_name(process_group.channel.hear()))
        process_group.channel.settle()
    else:
        with atomic_path(path) as temporary:
            with temporary.open("wb") as stream:
                stream.write(head)
                stream.truncate(length)
            process_group.channel.say(temporary.name)
            write(temporary)
            process_group.channel.settle()
    process_group.channel.settle()


def load_shards(
    path: Path, model: MTAW, stepper: GroupStepper | None, shards: Shards, process_group: ProcessGroup
) -> None:
    """The inverse; TrainingError where the file does not fit. The file may be one that one process has written."""
    arrays = map_tensors(path, mapping="map")
    rows = shards.rows(process_group.rank)
    try:
        if len(arrays[f"weight.{_TABLE}"]) != shards.n_items:
            raise KeyError(f"it has {len(arrays[f'weight.{_TABLE}'])} items, not {shards.n_items}")
        cut = {name: array[rows] if _is_table(name) and array.ndim == 2 else array for name, array in arrays.items()}
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                _copy(parameter, cut[f"weight.{name}"])
        if stepper is not None:
            stepper.load_moments(cut)
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{path} does not fit the model ({error}); start anew with --overwrite") from None


def _is_table(name: str) -> bool:
    return name in (f"weight.{_TABLE}", *(f"{moment}.{_TABLE}" for moment in MOMENTS))


def _copy(parameter: Tensor, array: np.ndarray) -> None:
    if tuple(parameter.shape) != array.shape:
        raise RuntimeError(f"{list(array.shape)} where {list(parameter.shape)} is wanted")
    step = max(1, _BYTES_AT_ONCE // max(array[:1].nbytes, 1))
    for begin in range(0, len(array), step):
        parameter[begin : begin + step] = torch.from_numpy(np.array(array[begin : begin + step]))


def _pieces(tensor: Tensor) -> Iterator[np.ndarray]:
    """The tensor's numbers in host memory, so many at a time: uint8[..]."""
    flat = tensor.detach().reshape(-1)
    for part in flat.split(_BYTES_AT_ONCE // flat.element_size()):
        yield part.cpu().numpy().view(np.uint8)


def _write_at(descriptor: int, data: np.ndarray, begin: int) -> None:
    view = memoryview(data.data)
    while view:  # a write may take a part
        written = os.pwrite(descriptor, view, begin)
        view, begin = view[written:], begin + written
