"""A group of processes: how one joins, what rank 0 asks of the others, and how all of it ends."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import MtawError, TrainingError, UsageError
from mtaw_fast.storage.files import read_json, write_json
from mtaw_fast.system.launch import START, Launch
from mtaw_fast.system.memory_use import peak_memory
from mtaw_fast.training.encoder.fitting import Fitting
from mtaw_fast.training.group.channel import Channel, GroupError
from mtaw_fast.training.group.collectives import Collectives
from mtaw_fast.training.group.fitting import fitting_of, follow_fit
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.reporting import Reporter
from mtaw_fast.training.run_state import RunState

_MARK = "group.json"
_JOINED = itertools.count()  # groups that this process has been in
_MEET = timedelta(minutes=15)  # until every process is there: the slowest machine imports PyTorch from a cold disk
_STEP = timedelta(minutes=30)  # that a collective may take, all processes being at it; other waits are the channel's
_SAME_WORDS = 5.0  # seconds in which rank 0 says an error that all have
_FEW_WORDS = 1.0  # in which a process that fails says so


@dataclass(frozen=True, slots=True)
class Peak:
    """What a process has taken. memory: bytes of the host, mapped files that it read included. device_memory: bytes of
    its GPU, None without one."""

    rank: int
    device: str
    memory: int
    device_memory: int | None

    def describe(self, world: int) -> str:
        """One line."""
        on_device = "" if self.device_memory is None else f", {self.device_memory / 1e6:,.0f} MB of its GPU"
        return f"process {self.rank} of {world} ({self.device}): peak memory {self.memory / 1e6:,.0f} MB{on_device}"


class Group:
    """This process and the others, while they are joined.

    Attributes
    ----------
    rank, world : int
        Of this process, in 0 .. world - 1.
    device : torch.device
        Where it computes.
    """

    def __init__(self, launch: Launch, process_group: ProcessGroup) -> None:
        self.rank, self.world, self.device = process_group.rank, process_group.world, process_group.device
        self._launch, self._process_group = launch, process_group
        self._peaks: list[Peak] = []

    @property
    def leads(self) -> bool:
        """Whether this process trains, as `train` does, and the others follow it."""
        return self._process_group.leads

    def fitting(
        self,
        config: Config,
        dataset: Dataset,
        state: RunState,
        reporter: Reporter,
        type_weights: np.ndarray | None,
    ) -> Fitting:
        """What rank 0 fits with in place of a `Fitting`; UsageError where a group cannot do what the settings say."""
        return fitting_of(config, dataset, self._process_group, state, reporter, type_weights)

    def follow(self, dataset: Dataset | str | Path) -> None:
        """Take part in what rank 0 does, until it is through.

        Parameters
        ----------
        dataset : Dataset or path
            The same as rank 0's; a path is opened at the first fit.

        Raises
        ------
        GroupError
            Where another process has failed: it says why.
        TrainingError
            On an error of this process alone.
        """
        if self.leads:
            raise UsageError("rank 0 of a group has nobody to follow; it trains")
        try:
            while (order := self._process_group.channel.hear())["do"] == "fit":
                dataset = dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)
                follow_fit(order, dataset, self._process_group)
            self._process_group.channel.settle(asdict(self._peak()))
        except GroupError:
            raise
        except (MtawError, OSError) as error:
            if self._process_group.channel.failure(_SAME_WORDS) == str(error):
                same = GroupError(str(error))
                same.told = True
                raise same from None
            raise TrainingError(f"process {self.rank} of {self.world}: {error}") from None

    def finish(self) -> list[Peak]:
        """Let the others go, once; returns what each process has taken, by rank. Of rank 0."""
        if not self._peaks:
            self._process_group.channel.say({"do": "end"})
            self._peaks = [Peak(**values) for values in self._process_group.channel.settle(asdict(self._peak()))]
        return self._peaks

    def mark(self, folder: Path) -> None:
        """Note in a run's folder that this launch has opened it."""
        write_json(folder / _MARK, {"launch": self._launch.identity})

    def goes_on(self, folder: Path) -> bool:
        """Whether torchrun has started the group again after it had opened the run in this folder: what it began is
        then resumed, whatever it was told at first."""
        if self._launch.restarts == 0 or not (folder / _MARK).exists():
            return False
        return bool(read_json(folder / _MARK, TrainingError).get("launch") == self._launch.identity)

    def _peak(self) -> Peak:
        on_gpu = self.device.type == "cuda"
        return Peak(
            rank=self.rank,
            device=str(self.device),
            memory=peak_memory(),
            device_memory=torch.cuda.max_memory_allocated(self.device) if on_gpu else None,
        )


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Group]:
    """Be one of the group of processes that torchrun started.

    Parameters
    ----------
    device : {'auto', 'cpu', 'cuda'}, default 'auto'
        Of every process: 'cuda' is the card with the number of its local rank, with NCCL between them; 'cpu' takes
        gloo; 'auto' the first where there are cards.

    Raises
    ------
    UsageError
        Where this process was not started so, or the device cannot be had.
    """
    launch = Launch.of()
    if launch is None:
        raise UsageError(f"this process is alone; start a group with '{START}'")
    try:
        chosen = device_of_rank(device, launch.local_rank)
    except UsageError as error:
        # What is wrong with all processes, or all of a machine, the first of them says.
        if launch.rank > 0 and device == "cuda" and (launch.local_rank == 0 or torch.cuda.device_count() > 0):
            raise TrainingError(f"process {launch.rank} of {launch.world}: {error}") from None
        raise
    # What an earlier start, or an earlier group of the same processes, has said is still there.
    store = dist.PrefixStore(f"mtaw_fast/{launch.restarts}/{next(_JOINED)}", _store(launch))
    channel = Channel(store, launch.rank, launch.world)
    _meet(launch, store, chosen)
    process_group = ProcessGroup(launch.rank, launch.world, chosen, channel, Collectives(launch.rank, launch.world))
    group = Group(launch, process_group)
    try:
        yield group
        if group.leads:
            group.finish()
        _part(channel, launch)
    except GroupError as error:
        error.told = error.told or channel.failure(_FEW_WORDS) is not None or not channel.first_to_tell()
        raise
    except BaseException as error:
        channel.fail(str(error) or type(error).__name__)
        raise
    finally:
        if chosen.type == "cpu":  # NCCL would wait for those that are gone
            dist.destroy_process_group()
    if chosen.type == "cuda":
        dist.destroy_process_group()


def device_of_rank(name: str, local_rank: int) -> torch.device:
    """The device of a process: its own card where the name is cuda, or auto and there are cards. UsageError where it
    cannot be had."""
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"device {name!r}: in a group each process takes the card of its local rank; write cuda, cpu or auto"
        )
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= cards:
        raise UsageError(
            f"device {name!r}: local rank {local_rank} has no card of its own, there are {cards}; start "
            f"--nproc-per-node={max(cards, 1)}, or train with --device cpu"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _store(launch: Launch) -> dist.Store:
    try:
        return dist.TCPStore(
            launch.address, launch.port, launch.world, is_master=not launch.hosted and launch.rank == 0,
            timeout=_MEET, wait_for_workers=False, multi_tenant=True,
        )  # fmt: skip
    except RuntimeError as error:
        raise UsageError(
            f"the group's store at {launch.address}:{launch.port} cannot be reached "
            f"({(str(error).splitlines() or [''])[0][:200]}); start the group with '{START}'"
        ) from None


def _meet(launch: Launch, store: dist.Store, device: torch.device) -> None:
    named: dict[str, Any] = {"device_id": device} if device.type == "cuda" else {}
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("collectives", store),
            rank=launch.rank, world_size=launch.world, timeout=_STEP, **named,
        )  # fmt: skip
    except RuntimeError as error:
        raise GroupError((str(error).splitlines() or [""])[0][:200]) from None


def _part(channel: Channel, launch: Launch) -> None:
    """Leave; where rank 0 keeps the store, it waits until the others have read the last word."""
    if launch.hosted:
        return
    if launch.rank > 0:
        channel.leave()
    else:
        channel.wait_for_leavers()
