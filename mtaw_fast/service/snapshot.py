"""A loaded bundle: the recommender, and the version that its answers carry."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST, trained_at
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.bundle.versions import version_of
from mtaw_fast.errors import BundleError
from mtaw_fast.experiment.drift import DriftReference
from mtaw_fast.online.compaction.current import trained_until
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender

_TRIAL_K = 20  # results of the ranking that a bundle must give before it is served


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The bundle that one answer is made from.

    name: of the bundle, if several are served. folder: its folder's name. trained: Unix seconds, 0 if unknown.
    reference: the clicks of its training.
    """

    recommender: Recommender
    version: str
    name: str | None = None
    folder: str = ""
    trained: float = 0.0
    reference: DriftReference | None = None


def load_snapshot(
    folder: Path,
    encoder: EncoderName | str,
    index: IndexName | str,
    learn: LearningSettings | None = None,
    name: str | None = None,
    state: Path | None = None,
) -> Snapshot:
    """Load and verify a bundle and make one ranking with it, so that a bundle that cannot answer is not served.

    name: see `Snapshot`. Raises as `Recommender.load`.
    """
    shown_as = folder.name
    folder = folder.resolve()  # one bundle from begin to end, if a name is promoted to another meanwhile
    while True:
        version = current_version(folder)
        recommender = Recommender.load(folder, encoder=encoder, index=index, learn=learn, state=state)
        try:
            # Read twice, because a compacted bundle does not say the version of its base.
            if learn is not None and current_version(folder) != version:  # it was replaced meanwhile
                recommender.close()
                continue
            bundle = recommender.bundle
            # Also touches the pages that every search reads, so that the first client does not wait for them.
            recommender.recommend(bundle.ids.external(bundle.most_clicked[:1]), _TRIAL_K)
            return Snapshot(
                recommender,
                version if learn else version_of(bundle.manifest),
                name,
                shown_as,
                _trained(folder),
                _reference(bundle),
            )
        except BaseException:
            recommender.close()
            raise


def _trained(folder: Path) -> float:
    """Return when the bundle in a folder was trained, Unix seconds; 0 if its manifest does not say so."""
    try:
        return datetime.fromisoformat(trained_at(read_manifest(folder))).timestamp()
    except ValueError:
        return 0.0


def _reference(bundle: Bundle) -> DriftReference | None:
    """Return the clicks of a bundle's training, without what it learned since; None without a session memory."""
    model = bundle.model
    sessions, until = model.sessions, trained_until(bundle)
    if sessions.times is not None and until is not None and len(sessions):
        ends = sessions.times[sessions.offsets[1:] - 1]
        count = int(np.count_nonzero(ends <= until))
        if count < len(sessions) and bool((ends[:count] <= until).all()):  # learned sessions come after trained ones
            sessions = sessions.slice(0, count)
    return DriftReference.of(sessions, model.n_items)


def current_version(folder: Path, verify: bool = False) -> str:
    """Return the version of the bundle in the folder. verify: whether to read all of its files. Raises BundleError."""
    return version_of(Bundle.load(folder, verify=verify).manifest)


def check_version(folder: Path, version: str, expected: str | None) -> None:
    """Raise BundleError if the bundle in a folder does not have the expected version; None accepts any."""
    if expected not in (None, version):
        raise BundleError(
            f"{folder} on this machine holds bundle {version}, not {expected}; copy bundle {expected} into a folder of "
            "its own"
        )


def signature(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when the manifest is replaced, without reading it; None without a manifest."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
