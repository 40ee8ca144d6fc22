"""One checkpoint file of all processes, in the format that one process writes. Each writes and reads its own rows.

So a run can resume with another number of processes, or with one, and no process ever has the whole table in memory.
All processes must see the same run folder: on one machine, or on a shared file system.
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
_BYTES_AT_ONCE = 64 << 20  # copied from a device for a write


def save_shards(
    path: Path, model: MTAW, stepper: GroupStepper | None, shards: Shards, process_group: ProcessGroup
) -> None:
    """Write weights and, with a stepper, Adam's moments; the file appears whole or not at all.

    Returns when the file is there. Raises OSError if this process cannot write, GroupError if another one cannot.
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
    own_tensors = {name: tensor for name, tensor in tensors.items() if name in by_rows or process_group.leads}

    def write(temporary: Path) -> None:
        descriptor = os.open(temporary, os.O_WRONLY)
        try:
            for name, tensor in own_tensors.items():
                begin = places[name] + (first_row * tensor.shape[1] * 4 if name in by_rows else 0)
                for data in _pieces(tensor):
                    _write_at(descriptor, data, begin)
                    begin += data.nbytes
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    if not process_group.leads:
        write(path.with_name(process_group.channel.receive()))
        process_group.channel.gather()
    else:
        with atomic_path(path) as temporary:
            with temporary.open("wb") as stream:
                stream.write(head)
                stream.truncate(length)
            process_group.channel.send(temporary.name)
            write(temporary)
            process_group.channel.gather()
    process_group.channel.gather()


def load_shards(
    path: Path, model: MTAW, stepper: GroupStepper | None, shards: Shards, process_group: ProcessGroup
) -> None:
    """Read what `save_shards` or one process alone has written; TrainingError if the file does not fit."""
    arrays = map_tensors(path, mapping="map")
    rows = shards.rows(process_group.rank)
    try:
        if len(arrays[f"weight.{_TABLE}"]) != shards.n_items:
            raise KeyError(f"it has {len(arrays[f'weight.{_TABLE}'])} items, not {shards.n_items}")
        own_arrays = {
            name: array[rows] if _is_table(name) and array.ndim == 2 else array for name, array in arrays.items()
        }
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                _copy(parameter, own_arrays[f"weight.{name}"])
        if stepper is not None:
            stepper.load_moments(own_arrays)
    except (KeyError, RuntimeError) as error:
        raise TrainingError(f"{path} does not fit the model ({error}); start over with --overwrite") from None


def _is_table(name: str) -> bool:
    return name in (f"weight.{_TABLE}", *(f"{moment}.{_TABLE}" for moment in MOMENTS))


def _copy(parameter: Tensor, array: np.ndarray) -> None:
    if tuple(parameter.shape) != array.shape:
        raise RuntimeError(f"shape {list(array.shape)}, expected {list(parameter.shape)}")
    step = max(1, _BYTES_AT_ONCE // max(array[:1].nbytes, 1))
    for begin in range(0, len(array), step):
        parameter[begin : begin + step] = torch.from_numpy(np.array(array[begin : begin + step]))


def _pieces(tensor: Tensor) -> Iterator[np.ndarray]:
    """Yield the tensor's bytes in host memory, in pieces: uint8[..]."""
    flat = tensor.detach().reshape(-1)
    for part in flat.split(_BYTES_AT_ONCE // flat.element_size()):
        yield part.cpu().numpy().view(np.uint8)


def _write_at(descriptor: int, data: np.ndarray, begin: int) -> None:
    view = memoryview(data.data)
    while view:  # a write may be partial
        written = os.pwrite(descriptor, view, begin)
        view, begin = view[written:], begin + written
