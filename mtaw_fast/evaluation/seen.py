"""Check whether a bundle has seen the samples that it is evaluated on.

Axes: T clicks, S samples.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.evaluation.protocol import translated

_MIN_CLICKS = 4  # of a session without times that is taken as the same one
_LEAK = 0.02  # of the targets: two visitors can do the same in the same second
_MIX = np.uint64(0x9E3779B97F4A7C15)


def training_part(fingerprint: str) -> str:
    """Return the part of a fingerprint 'train-test-ids' for the training sessions and the catalog."""
    parts = fingerprint.split("-")
    return f"{parts[0]}-{parts[2]}" if len(parts) == 3 else fingerprint


def same_training_part(bundle: Bundle, dataset: Dataset) -> bool | None:
    """Whether the bundle was trained on the data set's training part; None if either has no fingerprint."""
    trained = str(bundle.dataset.get("fingerprint") or "")
    if not trained or not dataset.fingerprint:
        return None
    return training_part(trained) == training_part(dataset.fingerprint)


def warnings_of(bundle: Bundle, dataset: Dataset, samples: Samples) -> list[str]:
    """Return warnings about a bundle's metrics on a data set's samples, a line each.

    One if the bundle was trained on another training part, and one if it has learned from logs since. Both say how
    many of the samples the bundle has seen, as far as its session memory shows.
    """
    lines = []
    same_part, progress = same_training_part(bundle, dataset), bundle.model.log_progress
    seen = None
    if same_part is False or bundle.model.has_learned:
        seen = seen_targets(bundle, dataset, samples)
    if same_part is False:
        name = bundle.dataset.get("name", "another data set")
        lines.append(
            f"this bundle was not trained on the training part of {dataset.name} but on that of {name} "
            f"({bundle.dataset.get('fingerprint')}, here {dataset.fingerprint}): {_seen_text(seen, len(samples))}"
        )
    if progress is not None and bundle.model.has_learned:
        lines.append(
            f"this bundle has learned {len(progress.keys):,} sessions from logs since it was trained (update, or "
            f"--learn): {_seen_text(seen, len(samples))}"
        )
    return lines


def may_know(bundle: Bundle, dataset: Dataset, samples: Samples) -> bool:
    """Whether the bundle may have seen the samples.

    That is so if it was trained on other sessions or has learned since, and its session memory has more of the samples
    than by chance. Without a memory nobody can tell, so the result is True.
    """
    if same_training_part(bundle, dataset) is not False and not bundle.model.has_learned:
        return False
    seen = seen_targets(bundle, dataset, samples)
    return seen is None or seen >= _LEAK * len(samples)


def _seen_text(n_seen: int | None, n_samples: int) -> str:
    if n_seen is None:
        return "without a session memory nothing shows whether it has seen them; evaluate on its own data set"
    text = f"{n_seen:,} of {n_samples:,} targets ({n_seen / n_samples:.1%}) are among the clicks that it knows"
    if n_seen < _LEAK * n_samples:
        return text
    return f"{text}, so these metrics show a leak; evaluate on a later log, or with 'mtaw-fast replay'"


def seen_targets(bundle: Bundle, dataset: Dataset, samples: Samples) -> int | None:
    """Return how many targets of the samples are clicks in the bundle's memory; None without a memory.

    With times a target is identified by its item, the click before it and its time; without times, by its whole
    session.
    """
    if bundle.memory is None:
        return None
    renumbered, sessions = translated(samples, dataset.ids, bundle.ids), bundle.model.sessions
    if sessions.times is not None and renumbered.target_times is not None:
        return int(np.isin(_sample_keys(renumbered), _click_keys(sessions)).sum())
    known_sessions = {session.tobytes() for session in sessions if len(session) >= _MIN_CLICKS}
    known = renumbered.targets < len(bundle.ids)
    lengths = samples.prefixes.lengths  # without unknown clicks, two prefixes may be equally long
    longest: dict[int, int] = {}
    for sample in np.flatnonzero(known).tolist():
        session = int(renumbered.session[sample])
        if session not in longest or lengths[sample] > lengths[longest[session]]:
            longest[session] = sample
    seen = {
        session
        for session, sample in longest.items()
        if np.append(renumbered.prefixes[sample], renumbered.targets[sample]).astype(np.int32).tobytes()
        in known_sessions
    }
    return int((known & np.isin(renumbered.session, np.array(sorted(seen), dtype=np.int32))).sum())


def _sample_keys(samples: Samples) -> np.ndarray:
    """Return uint64[..]: a hash of last click, target and its time, for each sample that has a known click."""
    assert samples.target_times is not None
    has_click = samples.prefixes.lengths > 0
    last_items = samples.prefixes.items[samples.prefixes.offsets[1:][has_click] - 1]
    return _hashed(last_items, samples.targets[has_click], samples.target_times[has_click])


def _click_keys(sessions: Sessions) -> np.ndarray:
    """Return uint64[..]: the same hash for each click that is not the first of its session."""
    assert sessions.times is not None
    is_later = np.ones(sessions.n_clicks, dtype=bool)
    is_later[sessions.offsets[:-1][sessions.lengths > 0]] = False
    clicks = np.flatnonzero(is_later)
    return _hashed(sessions.items[clicks - 1], sessions.items[clicks], sessions.times[clicks])


def _hashed(before: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    pair = (before.astype(np.uint64) << np.uint64(32)) | item.astype(np.uint64)
    return (pair * _MIX) ^ (time.astype(np.int64).view(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F))
