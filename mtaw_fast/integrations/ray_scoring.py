"""Batch scoring on Ray Data: actors score the planned blocks one by one and write their parts.

A part is written atomically and has the same bytes whoever writes it. So a worker that dies costs only the time of its
block, and after a driver that dies, the next run scores the missing blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError, require
from mtaw_fast.integrations.cluster import HERE, cluster
from mtaw_fast.scoring.plan import Block, Plan
from mtaw_fast.scoring.scorer import Scorer
from mtaw_fast.system.cpus import usable_cpus

_ERRORS = (MtawError, OSError, MemoryError)


class ScoringActor:
    """An actor that maps the bundle on start; actors of one host share the memory of its files.

    An error is part of its answer, because Ray would wrap it in pages of text.
    """

    def __init__(self, bundle: Path, plan: Plan, folder: Path) -> None:
        self._folder, self._scorer, self._failed = folder, None, ""
        self._blocks = {block.number: block for block in plan.blocks()}
        try:
            scorer = Scorer(bundle, plan.options)
            scorer.check(plan.bundle, plan.isa)
            self._scorer = scorer
        except _ERRORS as error:
            self._failed = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Score the block with the row's number."""
        block, failed = self._blocks[int(row["number"])], self._failed
        if self._scorer is not None:
            try:
                self._scorer.write(block, self._folder)
            except _ERRORS as error:
                failed = str(error)
        return {"rows": block.rows, "failed": failed}


def score_on_ray(
    bundle: Path,
    plan: Plan,
    blocks: Sequence[Block],
    folder: Path,
    address: str = HERE,
    actors: int | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Score blocks by a pool of actors.

    bundle, folder: the bundle and the output. Every host of the cluster has them, and the plan's sources, at the same
    paths. plan: every actor checks its bundle and instruction set against it. address: as in `cluster`. actors: by
    default one per processor of the cluster or of this process. progress: called with the rows of every block that is
    done, in any order.

    Raises MtawError, the first error of an actor, in one line. Finished blocks stay.
    """
    if not blocks:
        return
    with cluster(address, actors or usable_cpus()) as ray:
        data: Any = require("ray.data", "ray")
        data.DataContext.get_current().enable_progress_bars = False
        count = min(actors or max(int(ray.cluster_resources().get("CPU", 1)), 1), len(blocks))
        numbers = data.from_items([{"number": block.number} for block in blocks], override_num_blocks=len(blocks))
        scored = numbers.map(
            ScoringActor,
            fn_constructor_args=(bundle.resolve(), plan, folder.resolve()),
            compute=data.ActorPoolStrategy(size=count),
            num_cpus=1,
        )
        for row in scored.iter_rows():
            if row["failed"]:
                raise MtawError(row["failed"])
            progress(row["rows"])
