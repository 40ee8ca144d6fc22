"""A group of processes: joining it, following rank 0, and leaving."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import MtawError, TrainingError, UsageError
from mtaw_fast.storage.files import read_json, write_json
from mtaw_fast.system.launch import START, Launch
from mtaw_fast.system.memory_use import peak_memory
from mtaw_fast.training.group.channel import Channel, GroupError
from mtaw_fast.training.group.process_group import Collectives, ProcessGroup
from mtaw_fast.training.group.runner import GroupRunner, follow_fit

_MARK = "group.json"
_JOINED = itertools.count()  # groups that this process has been in
_JOIN_TIMEOUT = timedelta(minutes=15)  # the slowest machine imports PyTorch from a cold disk
_STEP_TIMEOUT = timedelta(minutes=30)  # of a collective; longer waits use the channel
_SAME_ERROR_WAIT = 5.0  # seconds in which rank 0 reports an error that all have
_FAILURE_WAIT = 1.0  # seconds in which a failing process reports it


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak memory of a process. memory: bytes on the host, including mapped files that it read. device_memory: bytes on
    its GPU; None without one."""

    rank: int
    device: str
    memory: int
    device_memory: int | None

    def describe(self, world: int) -> str:
        """Return one line of text."""
        on_device = "" if self.device_memory is None else f", {self.device_memory / 1e6:,.0f} MB of its GPU"
        return f"process {self.rank} of {world} ({self.device}): peak memory {self.memory / 1e6:,.0f} MB{on_device}"


class Group:
    """This process and the others of its group.

    rank, world: of this process, in 0 .. world - 1. device: where it computes.
    """

    def __init__(self, launch: Launch, process_group: ProcessGroup) -> None:
        self.rank, self.world, self.device = process_group.rank, process_group.world, process_group.device
        self._launch, self._process_group = launch, process_group
        self._peaks: list[Peak] = []

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which calls `train`; the others call `follow`."""
        return self._process_group.leads

    def runner(self, config: Config, n_items: int) -> GroupRunner:
        """Return where rank 0 fits; raises UsageError if a group cannot train with the settings."""
        return GroupRunner(config, n_items, self._process_group)

    def follow(self, dataset: Dataset | str | Path) -> None:
        """Take part in what rank 0 does, until it ends.

        dataset: the same as in rank 0; a path is opened at the first fit.
        Raises GroupError if another process fails; the message has its reason; TrainingError on an error in this
        process.
        """
        if self.leads:
            raise UsageError("rank 0 has nobody to follow; call train() there")
        try:
            while (message := self._process_group.channel.receive())["do"] == "fit":
                dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
                follow_fit(message, dataset, self._process_group)
            self._process_group.channel.gather(asdict(self._peak()))
        except GroupError:
            raise
        except (MtawError, OSError) as error:
            if self._process_group.channel.failure(_SAME_ERROR_WAIT) == str(error):
                group_error = GroupError(str(error))
                group_error.reported = True
                raise group_error from None
            raise TrainingError(f"process {self.rank} of {self.world}: {error}") from None

    def finish(self) -> list[Peak]:
        """End the others' `follow`, once, and return the peak memory of every process by rank. Only for rank 0."""
        if not self._peaks:
            self._process_group.channel.send({"do": "end"})
            self._peaks = [Peak(**values) for values in self._process_group.channel.gather(asdict(self._peak()))]
        return self._peaks

    def mark(self, folder: Path) -> None:
        """Write to a run folder which launch has opened it."""
        write_json(folder / _MARK, {"launch": self._launch.identity})

    def resumes(self, folder: Path) -> bool:
        """Whether torchrun has restarted this launch after it opened the run in `folder`. The run is then resumed,
        whatever its first start was for."""
        if self._launch.restarts == 0 or not (folder / _MARK).exists():
            return False
        return bool(read_json(folder / _MARK, TrainingError).get("launch") == self._launch.identity)

    def _peak(self) -> Peak:
        on_gpu = self.device.type == "cuda"
        device_memory = torch.cuda.max_memory_allocated(self.device) if on_gpu else None
        return Peak(self.rank, str(self.device), peak_memory(), device_memory)


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Group]:
    """Join the group of processes that torchrun started.

    device: {'auto', 'cpu', 'cuda'}, 'cuda' gives each process the GPU of its local rank and uses NCCL; 'cpu' uses gloo;
    'auto' takes 'cuda' if there are GPUs.
    Raises UsageError if torchrun did not start this process, or the device is missing.
    """
    launch = Launch.from_environment()
    if launch is None:
        raise UsageError(f"this process is alone; start a group with '{START}'")
    try:
        chosen = device_of_rank(device, launch.local_rank)
    except UsageError as error:
        # An error of all processes, or of all on one machine, is reported by the first of them.
        if launch.rank > 0 and device == "cuda" and (launch.local_rank == 0 or torch.cuda.device_count() > 0):
            raise TrainingError(f"process {launch.rank} of {launch.world}: {error}") from None
        raise
    # Messages of an earlier start, or of an earlier group of the same processes, are still in the store.
    store = dist.PrefixStore(f"mtaw_fast/{launch.restarts}/{next(_JOINED)}", _store(launch))
    channel = Channel(store, launch.rank, launch.world)
    _init_process_group(launch, store, chosen)
    process_group = ProcessGroup(launch.rank, launch.world, chosen, channel, Collectives(launch.rank, launch.world))
    group = Group(launch, process_group)
    try:
        yield group
        if group.leads:
            group.finish()
        if not launch.hosted:  # rank 0 hosts the store, and waits until the others have read the last message
            if launch.rank > 0:
                channel.leave()
            else:
                channel.wait_for_leavers()
    except GroupError as error:
        error.reported = error.reported or channel.failure(_FAILURE_WAIT) is not None or not channel.first_to_report()
        raise
    except BaseException as error:
        channel.report_failure(str(error) or type(error).__name__)
        raise
    finally:
        if chosen.type == "cpu":  # NCCL would wait for processes that are gone
            dist.destroy_process_group()
    if chosen.type == "cuda":
        dist.destroy_process_group()


def device_of_rank(name: str, local_rank: int) -> torch.device:
    """Return the device of a process: its own GPU for cuda, or for auto if there are GPUs.

    Raises UsageError if that GPU is missing.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"device {name!r}: in a group each process takes the GPU of its local rank; write cuda, cpu or auto"
        )
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= cards:
        raise UsageError(
            f"device {name!r}: local rank {local_rank} has no GPU of its own, there are {cards}; start "
            f"--nproc-per-node={max(cards, 1)}, or train with --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _store(launch: Launch) -> dist.Store:
    try:
        return dist.TCPStore(
            launch.address, launch.port, launch.world, is_master=not launch.hosted and launch.rank == 0,
            timeout=_JOIN_TIMEOUT, wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
    except RuntimeError as error:
        raise UsageError(
            f"the group's store at {launch.address}:{launch.port} is not reachable "
            f"({(str(error).splitlines() or [''])[0][:200]}); start the group with '{START}'"
        ) from None


def _init_process_group(launch: Launch, store: dist.Store, device: torch.device) -> None:
    options: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("collectives", store),
            rank=launch.rank, world_size=launch.world, timeout=_STEP_TIMEOUT, **options,
        )  # fmt: skip
    except RuntimeError as error:
        raise GroupError((str(error).splitlines() or [""])[0][:200]) from None
