"""An exact index in shards of item ranges, each a Ray actor: an `Index` for catalogs too large for one host."""

from __future__ import annotations

import contextlib
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.integrations.cluster import NAMESPACE, connected, one_line
from mtaw_fast.integrations.shards import Shard, ShardSource
from mtaw_fast.ranking.retrieval.certificate import checked_norms
from mtaw_fast.ranking.retrieval.merging import merged, ranges

Late = Literal["error", "partial"]

_INLINE = 64 << 10  # larger queries, in bytes, go into the object store once instead of to each shard
_LOADING = 600.0  # seconds for a shard to load its vectors
_MAX_ITEMS = 2**31 - 1


class ShardError(MtawError):
    """A shard did not answer, or could not be loaded."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardedAnswer:
    """The result of the shards that answered.

    ids, scores: as in `Index.search`. missing: the item ranges without an answer, in order.
    """

    ids: np.ndarray
    scores: np.ndarray
    missing: tuple[range, ...]

    @property
    def partial(self) -> bool:
        """Whether ranges are missing, which may have better items."""
        return bool(self.missing)


class ShardedIndex:
    """An `Index` over N items in shards, with the same results to the bit as one exact index. Thread-safe.

    `start` starts the shards, `attach` connects to shards that were started with a name. `search` is `Index.search`, so
    a `Recommender` can use it; `find` also returns the missing ranges. Ray restarts a shard that dies, on another host
    if its own is gone; the shard is missing until it has loaded.

    timeout: seconds for all shards to answer. late: the result if a shard has not answered by then: an 'error', or a
    'partial' answer of the others.
    """

    name = "sharded"

    def __init__(self, ray: Any, actors: Sequence[Any], timeout: float, late: Late) -> None:
        """Wrap actors of `Shard` in order of their ranges. Raises the errors of `start` and `attach`."""
        _check_terms(timeout, late)
        self._ray, self._actors = ray, list(actors)
        self._timeout, self._late = timeout, late
        shapes = [self._described(actor, shard) for shard, actor in enumerate(actors)]
        widths = {d for _, n_items, d in shapes if n_items}
        if len(widths) > 1:
            raise UsageError(f"the shards' vectors have {sorted(widths)} dimensions; make them of one model")
        self.ranges = ranges([n_items for _, n_items, _ in shapes])
        self.n_items = self.ranges[-1].stop
        if self.n_items > _MAX_ITEMS:
            raise UsageError(f"the shards have {self.n_items} items, but ids end at {_MAX_ITEMS}; use fewer items")
        self.d = widths.pop() if widths else shapes[0][2]
        # A filter is used many times, so its parts are made and stored once.
        self._prepared: weakref.WeakKeyDictionary[Filter, tuple[str, list[Any]]] = weakref.WeakKeyDictionary()

    @classmethod
    def start(
        cls,
        sources: Sequence[ShardSource],
        *,
        timeout: float = 1.0,
        late: Late = "error",
        name: str | None = None,
        cpus: float = 1.0,
        threads: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> ShardedIndex:
        """Start a shard for every source, in the Ray cluster that this process is connected to.

        Parameters
        ----------
        sources : sequence of ShardSource
            The sources in order of their ranges; `shards.bundle_rows` makes those of a bundle.
        timeout, late
            See the class.
        name : str, optional
            Keep the shards when this process ends, for `attach`; without a name they end with it.
        cpus : float, default 1
            Processors that Ray reserves for a shard. Shards are spread over the hosts.
        threads : int, default 1
            Queries that a shard works on at a time.
        options : mapping, optional
            More options of the actors, such as `resources`, as `ray.remote` takes them.

        Returns
        -------
        ShardedIndex
            The index, after every shard has loaded.

        Raises
        ------
        UsageError
            Without a source, on bad arguments, vectors of several widths or a name in use, or if not connected to Ray.
        ShardError
            If a shard cannot be loaded.
        MissingPackageError
            Without the extra `ray`.
        """
        ray = connected()
        _check_terms(timeout, late)
        if not sources:
            raise UsageError("a sharded index needs at least one shard; give it sources")
        actor_options: dict[str, Any] = {
            "num_cpus": cpus, "max_restarts": -1, "max_concurrency": threads, "scheduling_strategy": "SPREAD",
            **(options or {}),
        }  # fmt: skip
        if name is not None:
            actor_options |= {"lifetime": "detached", "namespace": NAMESPACE}
        actors: list[Any] = []
        try:
            for shard, source in enumerate(sources):
                name_option = {} if name is None else {"name": f"{name}-{shard}"}
                actors.append(ray.remote(Shard).options(**actor_options, **name_option).remote(source, len(sources)))
            return cls(ray, actors, timeout, late)
        except BaseException as error:
            _end(ray, actors)
            if isinstance(error, ValueError):
                raise UsageError(
                    f"shards cannot be started ({one_line(error)}); use another name or other options"
                ) from None
            raise

    @classmethod
    def attach(cls, name: str, *, timeout: float = 1.0, late: Late = "error") -> ShardedIndex:
        """Connect to the index that a process started with a name. Parameters and errors as in `start`."""
        ray = connected()
        try:
            first_shard = ray.get_actor(f"{name}-0", namespace=NAMESPACE)
            n_shards = _answer_of(ray, first_shard.describe.remote(), "shard 0")[0]
            actors = [ray.get_actor(f"{name}-{shard}", namespace=NAMESPACE) for shard in range(n_shards)]
        except ValueError:
            raise UsageError(f"there is no sharded index {name!r} in this cluster; start one") from None
        return cls(ray, actors, timeout, late)

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`. Also raises ShardError if a shard is missing, unless partial answers are allowed."""
        answer = self.find(queries, k, allowed, scale=scale)
        return answer.ids, answer.scores

    def find(
        self,
        queries: np.ndarray,
        k: int,
        allowed: Filter | None = None,
        *,
        scale: float = 1.0,
        timeout: float | None = None,
        late: Late | None = None,
    ) -> ShardedAnswer:
        """Run `Index.search` and return the missing item ranges too.

        timeout, late: for this call; None: those of the index. Raises UsageError on arguments that do not fit, and
        ShardError as `late` says.
        """
        seconds, policy = self._timeout if timeout is None else timeout, late or self._late
        _check_terms(seconds, policy)
        if not scale > 0:
            raise UsageError(f"scale must be positive, not {scale}")
        checked_norms(queries, self.d, k, allowed, self.n_items)
        name, parts = (None, [None] * len(self._actors)) if allowed is None else self._parts(allowed)
        sent = self._ray.put(queries) if queries.nbytes > _INLINE else queries
        references = {
            shard: self._actors[shard].search.remote(sent, k, scale, name, parts[shard])
            for shard, items in enumerate(self.ranges)
            if items  # a shard without items has no answer and cannot be missing
        }
        answered, missing, reason = self._gathered(references, seconds)
        if missing and policy == "error":
            raise ShardError(f"{reason}; try again, allow more time, or ask for partial answers")
        return ShardedAnswer(*merged(answered, len(queries), k), tuple(self.ranges[shard] for shard in missing))

    def _gathered(self, references: Mapping[int, Any], seconds: float) -> tuple[list[Any], list[int], str]:
        """Return (begin, found) of the shards that answered in time, the numbers of the others, and the first
        reason."""
        ray = self._ray
        in_time: set[Any] = set()
        if references:
            try:
                in_time.update(ray.wait(list(references.values()), num_returns=len(references), timeout=seconds)[0])
            except ray.exceptions.RayError as error:
                raise ShardError(f"the Ray cluster was lost ({type(error).__name__}); connect again") from None
        answered: list[Any] = []
        missing: list[int] = []
        first_reason = ""
        for shard, reference in references.items():
            items = self.ranges[shard]
            if reference in in_time:
                try:
                    answered.append((items.start, ray.get(reference)))
                    continue
                except ray.exceptions.RayError as error:
                    reason = _reason(ray, error)
            else:
                reason = f"did not answer within {seconds:g} s"
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.cancel(reference)  # drop the call if it still waits there
            missing.append(shard)
            first_reason = first_reason or f"shard {shard} (items {items.start} to {items.stop - 1}) {reason}"
        return answered, missing, first_reason

    def _parts(self, allowed: Filter) -> tuple[str, list[Any]]:
        """Return a name for a filter, and its bits for every shard."""
        prepared = self._prepared.get(allowed)
        if prepared is None:
            bits = [np.packbits(allowed.mask[items.start : items.stop], bitorder="little") for items in self.ranges]
            prepared = self._prepared[allowed] = uuid.uuid4().hex, [self._ray.put(part) for part in bits]
        return prepared

    def _described(self, actor: Any, shard: int) -> tuple[int, int, int]:
        return _answer_of(self._ray, actor.describe.remote(), f"shard {shard}")

    def close(self) -> None:
        """End the shards, also for all other attached processes."""
        _end(self._ray, self._actors)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_terms(timeout: float, late: str) -> None:
    if not timeout > 0:
        raise UsageError(f"timeout must be above 0 s, not {timeout}")
    if late not in ("error", "partial"):
        raise UsageError(f"late must be 'error' or 'partial', not {late!r}")


def _answer_of(ray: Any, reference: Any, name: str) -> Any:
    try:
        return ray.get(reference, timeout=_LOADING)
    except ray.exceptions.GetTimeoutError:
        reason = f"was not loaded within {_LOADING:g} s; check with 'ray status' that the cluster has room for it"
        raise ShardError(f"{name} {reason}") from None
    except ray.exceptions.RayError as error:
        raise ShardError(f"{name} {_reason(ray, error)}") from None


def _reason(ray: Any, error: Exception) -> str:
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        return f"failed: {one_line(cause if isinstance(cause, Exception) else error)}"
    if isinstance(error, ray.exceptions.RayActorError):
        return "is down and restarting"
    return f"cannot be reached ({type(error).__name__})"


def _end(ray: Any, actors: Sequence[Any]) -> None:
    for actor in actors:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
