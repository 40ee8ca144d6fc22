"""The place of this process in its group, read from torchrun's environment variables; without PyTorch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtaw_fast.errors import UsageError

START = "torchrun --nproc-per-node=2 -m mtaw_fast train .."
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class Launch:
    """This process's place in its group.

    rank: in 0 .. world - 1, over all hosts; local_rank on this host. address, port: of the group's store. hosted:
    whether torchrun already runs the store; else rank 0 opens it. restarts: how often torchrun has started the group
    again. identity: of the launch, the same after a restart, different for another call of torchrun.
    """

    rank: int
    world: int
    local_rank: int
    address: str
    port: int
    hosted: bool
    restarts: int
    identity: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Launch | None:
        """Read the environment; None if this process was started alone.

        Raises UsageError if variables are missing or invalid.
        """
        names = [name for name in _NEEDED[:2] if environment.get(name)]
        if not names:
            return None
        for name in _NEEDED:
            if not environment.get(name):
                raise UsageError(
                    f"${names[0]} is set, but not ${name}: start a group of processes with '{START}', or unset "
                    f"{names[0]}"
                )
        numbers = {name: _number(environment, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT")}
        rank, world = numbers["RANK"], numbers["WORLD_SIZE"]
        if rank >= world:
            raise UsageError(f"$RANK={rank} is not below $WORLD_SIZE={world}; start the group with '{START}'")
        return cls(
            rank=rank,
            world=world,
            local_rank=_number(environment, "LOCAL_RANK", rank),
            address=environment["MASTER_ADDR"],
            port=numbers["MASTER_PORT"],
            hosted=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            restarts=_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
            identity=_identity(environment),
        )


def follows(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether another process of the group prints what all of them have to print."""
    try:
        launch = Launch.from_environment(environment)
    except UsageError:
        return False
    return launch is not None and launch.rank > 0


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal():
        raise UsageError(f"${name}={text!r} is not a number; start the group with '{START}'")
    return int(text)


def _identity(environment: Mapping[str, str]) -> str:
    """Return torchrun's name of the launch; without one, a name of the parent process."""
    name = environment.get("TORCHELASTIC_RUN_ID", "none")
    if name != "none":
        return name
    parent = os.getppid()
    try:
        # The second field may contain spaces and brackets; the 22nd is the start of the process.
        began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return f"{parent}-{began}"
