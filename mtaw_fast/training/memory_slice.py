"""The ranker's lessons: the last sessions, seen by tables and vectors that know only the sessions before them.

Axes: Q prefixes of the slice, d, F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mtaw_fast.bundle_format import normalised
from mtaw_fast.config import Config
from mtaw_fast.dataset import Dataset
from mtaw_fast.encoders import NativeEncoder
from mtaw_fast.kernels.native.scan import quantise
from mtaw_fast.memory import MemorySettings, MemoryTables, Ranker
from mtaw_fast.retrieval import ScanIndex
from mtaw_fast.sessions import Sessions, offsets_of, ranges
from mtaw_fast.training.memory_ranker import RankerFit, fit_ranker
from mtaw_fast.training.reporting import Reporter


def build_tables(config: Config, sessions: Sessions, n_items: int) -> MemoryTables:
    """The memory's tables of `sessions` by the settings."""
    settings = MemorySettings(
        window=config.window,
        span=config.span,
        recency_share=config.recency,
        max_neighbours=config.max_neighbours,
        max_postings=config.max_postings,
    )
    return MemoryTables.build(sessions, n_items, settings, threads=torch.get_num_threads())
def fit_on_slice(*a): ...
