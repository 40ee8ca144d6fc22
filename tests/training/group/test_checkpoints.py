"""One file for all processes: the bytes that one process writes, and readable by any number of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.errors import MtawError, TrainingError
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.group import checkpoints
from mtaw_fast.training.group.channel import GroupError
from mtaw_fast.training.group.checkpoints import load_shards, save_shards
from mtaw_fast.training.group.process_group import ProcessGroup
from mtaw_fast.training.steps.full_step import Stepper
from tests.support.training.group_threads import in_threads, shard_stepper
from tests.support.training.steps import batches, new_model, still_config


def trained(config: Config) -> Stepper:
    stepper = Stepper(new_model(config), config)
    for batch in batches(config):
        stepper.step(batch, 1.0)
    return stepper


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Path]:
    """A checkpoint that one process wrote; pieces so small that a shard has many."""
    monkeypatch.setattr(checkpoints, "_BYTES_AT_ONCE", 256)
    config = still_config(recent_weight=2.0)
    stepper = trained(config)
    RunFolder(tmp_path).save_checkpoint("one.safetensors", stepper.model, stepper)
    RunFolder(tmp_path).save_checkpoint("weights.safetensors", stepper.model, None)
    return config, tmp_path


@pytest.mark.parametrize("world", [1, 2, 4])
def test_what_processes_read_and_write_is_the_file_of_one(written: tuple[Config, Path], world: int) -> None:
    config, folder = written

    def work(process_group: ProcessGroup) -> None:
        stepper = shard_stepper(config, new_model(config), process_group)
        load_shards(folder / "one.safetensors", stepper.model, stepper, stepper.shards, process_group)
        save_shards(folder / "all.safetensors", stepper.model, stepper, stepper.shards, process_group)
        save_shards(folder / "all-weights.safetensors", stepper.model, None, stepper.shards, process_group)

    in_threads(world, work)
    assert (folder / "all.safetensors").read_bytes() == (folder / "one.safetensors").read_bytes()
    assert (folder / "all-weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
    assert {path.name for path in folder.iterdir()} == {
        "one.safetensors", "all.safetensors", "weights.safetensors", "all-weights.safetensors",
    }  # fmt: skip


def test_where_one_cannot_write_there_is_no_file(written: tuple[Config, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = written
    right = checkpoints._write_at

    def work(process_group: ProcessGroup) -> str:
        stepper = shard_stepper(config, new_model(config), process_group)
        try:
            save_shards(folder / "all.safetensors", stepper.model, None, stepper.shards, process_group)
        except GroupError as error:
            return str(error)
        except (OSError, MtawError) as error:
            process_group.channel.report_failure(str(error))  # as `joined` does
            return "full"
        return "written"

    def full(descriptor: int, data: np.ndarray, begin: int) -> None:
        if begin > 3000:
            raise OSError(28, "No space left on device")
        right(descriptor, data, begin)

    monkeypatch.setattr(checkpoints, "_write_at", full)
    outcomes = in_threads(2, work)
    assert "full" in outcomes
    assert "written" not in outcomes
    assert {path.name for path in folder.iterdir()} == {"one.safetensors", "weights.safetensors"}


def test_a_file_of_another_catalog_is_refused(written: tuple[Config, Path]) -> None:
    config, folder = written
    other = MTAW(config, 7).draw_weights(1)

    def work(process_group: ProcessGroup) -> str:
        stepper = shard_stepper(config, other, process_group)
        with pytest.raises(TrainingError, match="has 60 items, not 7"):
            load_shards(folder / "one.safetensors", stepper.model, stepper, stepper.shards, process_group)
        with pytest.raises(TrainingError, match="does not fit the model"):
            load_shards(folder / "weights.safetensors", new_model(config), stepper, stepper.shards, process_group)
        return "refused"

    assert in_threads(2, work) == ["refused"] * 2
