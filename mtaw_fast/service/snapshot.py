"""A loaded bundle as the service holds it: the recommender and the version that its answers carry."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.errors import BundleError
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender

_FIRST = 20  # results of the ranking that a bundle must give before it is taken into service


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What one answer is made from, from beginning to end. name: of the bundle, where several are served."""

    recommender: Recommender
    version: str
    name: str | None = None


def load_snapshot(
    folder: Path,
    encoder: EncoderName | str,
    index: IndexName | str,
    learn: LearningSettings | None = None,
    name: str | None = None,
) -> Snapshot:
    """Load and verify a bundle, and make one ranking with it: one that cannot answer is not taken into service.

    name: see `Snapshot`. Raises as `Recommender.load`.
    """
    version = current_version(folder)  # a bundle that has grown by learning is still the one that was given
    recommender = Recommender.load(folder, encoder=encoder, index=index, learn=learn)
    ids = recommender.bundle.ids
    try:
        # Also touches the pages that every search reads, so that the first client does not wait for them.
        recommender.recommend(ids.external(recommender.bundle.most_clicked[:1]), _FIRST)
    except BaseException:
        recommender.close()
        raise
    return Snapshot(recommender, version if learn else version_of(recommender.bundle.manifest), name)


def current_version(folder: Path) -> str:
    """The version of the bundle that is in the folder now, its files unverified. Raises BundleError."""
    return version_of(Bundle.load(folder, verify=False).manifest)


def check_version(folder: Path, version: str, wanted: str | None) -> None:
    """Raise BundleError where a folder holds another bundle than the one that is wanted; None: any is."""
    if wanted not in (None, version):
        raise BundleError(
            f"{folder} holds bundle {version} on this machine, and {wanted} is to be served; put that bundle there, in "
            "a folder of its own"
        )


def version_of(manifest: Mapping[str, Any]) -> str:
    """16 hex digits that differ where a manifest does, and so where any file of a bundle does."""
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def signature(folder: Path) -> tuple[int, int, int] | None:
    """What changes when a manifest is replaced: cheap to look at. None where there is none."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
