"""Run `prepare` on Ray: the steps of a partitioned log as Ray tasks, on one host or several with the same paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtaw_fast.data.dataset import refuse_existing
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.partitioned_prepare import CheckIds, Progress, prepare_in_partitions
from mtaw_fast.integrations.cluster import HERE, Tasks, cluster, find_ray
from mtaw_fast.system.cpus import usable_cpus


def prepare_on_ray(
    source: Any,
    folder: Path,
    options: ClickOptions | None = None,
    name: str | None = None,
    *,
    address: str = HERE,
    overwrite: bool = False,
    partitions: int | None = None,
    progress: Progress = lambda *_: None,
    check_ids: CheckIds = lambda _: None,
) -> LogReport:
    """Make a sharded data set from a log of any size; each task of `partition_steps` takes one processor.

    A task whose worker dies is run again. If this process dies, its tasks end, and the next run starts from the
    beginning. address: as in `cluster`; every host of the cluster must see source and folder at these paths. The other
    parameters are those of `prepare_in_partitions`, as are result and errors; those of `cluster` come to these.
    """
    refuse_existing(folder, overwrite)
    find_ray(address)
    with cluster(address, usable_cpus()) as ray:
        return prepare_in_partitions(
            source,
            folder,
            options,
            name,
            overwrite=overwrite,
            partitions=partitions,
            run_tasks=Tasks(ray).run,
            progress=progress,
            check_ids=check_ids,
        )
