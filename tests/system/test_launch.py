"""The launch from torchrun's variables, and the errors if some are missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.system.launch import Launch, follows

WHOLE = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
ELASTIC = {
    "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "2", "TORCHELASTIC_RUN_ID": "job-7",
}  # fmt: skip


def test_a_process_alone_is_in_no_group() -> None:
    assert Launch.from_environment({}) is None
    assert Launch.from_environment({"MASTER_ADDR": "node0", "LOCAL_RANK": "0"}) is None
    assert not follows({})


def test_torchruns_variables() -> None:
    assert Launch.from_environment({**WHOLE, **ELASTIC}) == Launch(3, 4, 1, "node0", 29500, True, 2, "job-7")
    assert follows(WHOLE)
    assert not follows({**WHOLE, "RANK": "0"})


def test_without_torchrun_rank_0_keeps_the_store_and_nothing_restarts() -> None:
    launch = Launch.from_environment(WHOLE)
    assert launch is not None
    assert (launch.hosted, launch.restarts) == (False, 0)


def test_launches_without_a_name_are_named_by_their_parent() -> None:
    code = f"from mtaw_fast.system.launch import Launch; print(Launch.from_environment({WHOLE!r}).identity)"
    names = [subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)]
    assert names[0] == names[1]  # this process started both
    launch = Launch.from_environment({**WHOLE, "TORCHELASTIC_RUN_ID": "none"})
    assert launch is not None
    assert launch.identity != names[0].strip()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, r"\$WORLD_SIZE is set, but not \$RANK: start a group of processes with 'torchrun"),
        ({"RANK": "0"}, r"\$RANK is set, but not \$WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, r"not \$MASTER_ADDR"),
        ({**WHOLE, "RANK": "4"}, r"\$RANK=4 is not below \$WORLD_SIZE=4"),
        ({**WHOLE, "WORLD_SIZE": "two"}, r"\$WORLD_SIZE='two' is not a number"),
        ({**WHOLE, "MASTER_PORT": "-1"}, r"\$MASTER_PORT='-1' is not a number"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_missing_and_wrong_variables_are_refused(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Launch.from_environment(environment)
    assert not follows(environment)  # no other process prints it


def test_only_a_training_prints_errors_on_rank_0_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RANK=3 in the environment does not silence other commands."""
    for name, value in WHOLE.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "none.dataset", "none.bundle", "--set", "embedding_dim=-1"]) == 2
    assert capsys.readouterr().err == ""
    assert main(["info"]) == 2
    assert "the following arguments are required" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "0")
    assert main(["train", "none.dataset", "none.bundle", "--set", "embedding_dim=-1"]) == 2
    assert "setting embedding_dim=-1" in capsys.readouterr().err
