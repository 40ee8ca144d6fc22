"""How an approximate index is searched, and the recall measured that way: the manifest's entry `index`.

The entry has a plan for session vectors, `search`, and one for item vectors, `search_items`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtaw_fast.errors import BundleError

KINDS = ("ivfpq", "hnsw")
LARGEST_K = 128  # a longer list is searched exactly: the recall was measured for shorter ones
REMEDY = "export the index again with 'mtaw-fast export --index'"


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """Parameters of one search for k items.

    kind: 'ivfpq' (IVF with 4-bit product codes, fast scan) or 'hnsw'. effort: nprobe (lists read) of ivfpq, efSearch
    (nodes in the queue) of hnsw. k_factor: the k * k_factor best by the index's own distances are scored exactly.
    """

    kind: str
    effort: int
    k_factor: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BundleError(f"there is no index of the kind {self.kind!r}; export it as one of {', '.join(KINDS)}")
        for name in ("effort", "k_factor"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value < 2**31:
                raise BundleError(f"the index's {name} must be a whole number of at least 1, not {value!r}")

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values, the effort under FAISS's own name."""
        return {"nprobe" if self.kind == "ivfpq" else "efSearch": self.effort, "k_factor": self.k_factor}

    def widened(self, share: float, max_effort: int) -> SearchPlan:
        """Return the plan for a filter that allows `share` of the catalog: effort / share, at most `max_effort`."""
        return dataclasses.replace(self, effort=max(self.effort, min(max_effort, math.ceil(self.effort / share))))


@dataclass(frozen=True, slots=True)
class SearchPlans:
    """The plans of one index, both of its kind. sessions: for session vectors. items: for item vectors."""

    sessions: SearchPlan
    items: SearchPlan


@dataclass(frozen=True, slots=True)
class Recall:
    """The recall that export measured, without filters, on queries that were not used to choose the plans.

    target: the least recall@20 that was requested. sessions, items: recall@20 of session vectors, and of item
    vectors (similar_items), each by the plan of its kind. sessions_at_100: recall@100 of session vectors. queries:
    how many session vectors. source: where the sessions came from, as text.
    """

    target: float
    sessions: float
    items: float
    sessions_at_100: float
    queries: int
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return dataclasses.asdict(self)


def index_entry(plans: SearchPlans, recall: Recall, build: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's entry `index`; build: how the index was made, for the record."""
    return {
        "kind": plans.sessions.kind,
        "search": plans.sessions.as_dict(),
        "search_items": plans.items.as_dict(),
        "recall": recall.as_dict(),
        "build": dict(build),
    }


def read_entry(where: str, entry: Any) -> tuple[SearchPlans, Recall]:
    """Read what `index_entry` made. Raises BundleError, naming `where`, on anything else."""
    try:
        sessions, items = (_plan(entry["kind"], entry[name]) for name in ("search", "search_items"))
        return SearchPlans(sessions, items), Recall(**entry["recall"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"{where}: the entry 'index' is damaged ({type(error).__name__}: {error}); {REMEDY}"
        ) from None
    except BundleError as error:
        raise BundleError(f"{where}: {error}; {REMEDY}") from None


def _plan(kind: Any, search: Any) -> SearchPlan:
    """Read what `SearchPlan.as_dict` made."""
    return SearchPlan(kind, search["nprobe" if kind == "ivfpq" else "efSearch"], search["k_factor"])
