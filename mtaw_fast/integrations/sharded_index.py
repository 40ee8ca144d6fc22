"""An exact index in item-range shards, a Ray actor each: one more `Index`, for catalogs past one box."""

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
from mtaw_fast.ranking.retrieval.certificate import checked_queries
from mtaw_fast.ranking.retrieval.merging import merged, ranges

Late = Literal["error", "partial"]

_INLINE = 64 << 10  # bytes of queries from which they are put into the object store once, and not sent shard by shard
_LOADING = 600.0  # seconds that shards have to load their vectors
_MOST_ITEMS = 2**31 - 1


class ShardError(MtawError):
    """A shard did not answer, or could not be loaded."""


@dataclass(frozen=True, slots=True, eq=False)
class ShardedAnswer:
    """What the shards that answered found.

    ids, scores: as `Index.search` gives them. missing: the item ranges that nothing is known of, in order.
    """

    ids: np.ndarray
    scores: np.ndarray
    missing: tuple[range, ...]

    @property
    def partial(self) -> bool:
        """Whether better items may be in `missing`."""
        return bool(self.missing)


class ShardedIndex:
    """`Index` over N items in shards: to the bit what one exact index over all of them finds. Thread-safe.

    `start` makes one, `attach` finds one that was started under a name. `search` is `Index.search` and so fits a
    `Recommender`; `find` also tells which ranges are missing. A shard that dies is started again by Ray, on another
    machine where its own is gone, and is missing until it has loaded.

    timeout: seconds that the shards have together for an answer. late: what a shard that has none by then makes of the
    answer: an 'error', or a 'partial' one of the others.
    """

    name = "sharded"

    def __init__(self, ray: Any, actors: Sequence[Any], timeout: float, late: Late) -> None:
        """Of actors of `Shard` in order of their ranges; see `start` and `attach`, which raise the same errors."""
        _check_terms(timeout, late)
        self._ray, self._actors = ray, list(actors)
        self._timeout, self._late = timeout, late
        shapes = [self._described(actor, shard) for shard, actor in enumerate(actors)]
        widths = {d for _, n_items, d in shapes if n_items}
        if len(widths) > 1:
            raise UsageError(f"the shards' vectors have {sorted(widths)} dimensions; make them of one model")
        self.ranges = ranges([n_items for _, n_items, _ in shapes])
        self.n_items = self.ranges[-1].stop
        if self.n_items > _MOST_ITEMS:
            raise UsageError(f"there are {self.n_items} items in the shards, ids reach to {_MOST_ITEMS}")
        self.d = widths.pop() if widths else shapes[0][2]
        # A prepared filter is used many times: its parts are made and stored once.
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
        """Start a shard for every source, in the Ray that this process is connected to.

        Parameters
        ----------
        sources : sequence of ShardSource
            In order of their ranges; `shards.bundle_rows` makes them of a bundle.
        timeout, late
            See the class.
        name : str, optional
            Keep the shards when this process ends, for `attach`; without one they end with it.
        cpus : float, default 1
            Processors that Ray reserves for a shard. Shards are spread over the machines.
        threads : int, default 1
            Queries that a shard works on at a time.
        options : mapping, optional
            More options of the actors, such as `resources`, as `ray.remote` takes them.

        Returns
        -------
        ShardedIndex
            Once every shard has loaded.

        Raises
        ------
        UsageError
            On no source, terms that make no sense, vectors of several widths, a name that is taken, or without a Ray.
        ShardError
            Where a shard cannot be loaded.
        MissingPackageError
            Without the extra `ray`.
        """
        ray = connected()
        _check_terms(timeout, late)
        if not sources:
            raise UsageError("a sharded index needs at least one shard; give it sources")
        given: dict[str, Any] = {
            "num_cpus": cpus, "max_restarts": -1, "max_concurrency": threads, "scheduling_strategy": "SPREAD",
            **(options or {}),
        }  # fmt: skip
        if name is not None:
            given |= {"lifetime": "detached", "namespace": NAMESPACE}
        actors: list[Any] = []
        try:
            for shard, source in enumerate(sources):
                named = {} if name is None else {"name": f"{name}-{shard}"}
                actors.append(ray.remote(Shard).options(**given, **named).remote(source, len(sources)))
            return cls(ray, actors, timeout, late)
        except BaseException as error:
            _end(ray, actors)
            if isinstance(error, ValueError):
                raise UsageError(
                    f"shards cannot be started ({one_line(error)}); take another name or options"
                ) from None
            raise

    @classmethod
    def attach(cls, name: str, *, timeout: float = 1.0, late: Late = "error") -> ShardedIndex:
        """The index that some process started under a name. Parameters and errors as of `start`."""
        ray = connected()
        try:
            first = ray.get_actor(f"{name}-0", namespace=NAMESPACE)
            n_shards = _answer_of(ray, first.describe.remote(), "shard 0")[0]
            actors = [ray.get_actor(f"{name}-{shard}", namespace=NAMESPACE) for shard in range(n_shards)]
        except ValueError:
            raise UsageError(f"there is no sharded index {name!r} in this cluster; start one") from None
        return cls(ray, actors, timeout, late)

    def search(
        self, queries: np.ndarray, k: int, allowed: Filter | None = None, *, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `Index.search`; also raises ShardError where a shard is missing, unless partial answers are wanted."""
        found = self.find(queries, k, allowed, scale=scale)
        return found.ids, found.scores

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
        """`Index.search` on this call's own terms, told which item ranges are missing.

        timeout, late: of this call; None for the index's. Raises UsageError on arguments that do not fit, ShardError as
        `late` says.
        """
        seconds, how = self._timeout if timeout is None else timeout, late or self._late
        _check_terms(seconds, how)
        if not scale > 0:
            raise UsageError(f"scale must be positive, not {scale}")
        checked_queries(queries, self.d, k, allowed, self.n_items)
        name, parts = (None, [None] * len(self._actors)) if allowed is None else self._parts(allowed)
        sent = self._ray.put(queries) if queries.nbytes > _INLINE else queries
        asked = {
            shard: self._actors[shard].search.remote(sent, k, scale, name, parts[shard])
            for shard, items in enumerate(self.ranges)
            if items  # one without items has nothing to say, and cannot be missing
        }
        answered, missing, why = self._gathered(asked, seconds)
        if missing and how == "error":
            raise ShardError(f"{why}; try again, allow more time, or ask for partial answers")
        return ShardedAnswer(*merged(answered, len(queries), k), tuple(self.ranges[shard] for shard in missing))

    def _gathered(self, asked: Mapping[int, Any], seconds: float) -> tuple[list[Any], list[int], str]:
        """(begin, found) of the shards that answered in time, the numbers of the others, and why the first is one."""
        ray = self._ray
        in_time: set[Any] = set()
        if asked:
            try:
                in_time.update(ray.wait(list(asked.values()), num_returns=len(asked), timeout=seconds)[0])
            except ray.exceptions.RayError as error:
                raise ShardError(f"the Ray cluster was lost ({type(error).__name__}); connect again") from None
        answered: list[Any] = []
        missing: list[int] = []
        why = ""
        for shard, reference in asked.items():
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
                    ray.cancel(reference)  # what still waits there need not be done
            missing.append(shard)
            why = why or f"shard {shard} (items {items.start} to {items.stop - 1}) {reason}"
        return answered, missing, why

    def _parts(self, allowed: Filter) -> tuple[str, list[Any]]:
        """A name for a filter, and its bits for every shard."""
        known = self._prepared.get(allowed)
        if known is None:
            bits = [np.packbits(allowed.mask[one.start : one.stop], bitorder="little") for one in self.ranges]
            known = self._prepared[allowed] = uuid.uuid4().hex, [self._ray.put(one) for one in bits]
        return known

    def _described(self, actor: Any, shard: int) -> tuple[int, int, int]:
        return _answer_of(self._ray, actor.describe.remote(), f"shard {shard}")

    def close(self) -> None:
        """End the shards, for everybody who is attached."""
        _end(self._ray, self._actors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def _check_terms(timeout: float, late: str) -> None:
    if not timeout > 0:
        raise UsageError(f"timeout must be above 0 s, not {timeout}")
    if late not in ("error", "partial"):
        raise UsageError(f"late must be 'error' or 'partial', not {late!r}")


def _answer_of(ray: Any, reference: Any, what: str) -> Any:
    try:
        return ray.get(reference, timeout=_LOADING)
    except ray.exceptions.GetTimeoutError:
        reason = f"was not loaded within {_LOADING:g} s; see 'ray status' for whether there is room for it"
        raise ShardError(f"{what} {reason}") from None
    except ray.exceptions.RayError as error:
        raise ShardError(f"{what} {_reason(ray, error)}") from None


def _reason(ray: Any, error: Exception) -> str:
    if isinstance(error, ray.exceptions.RayTaskError):
        cause = error.cause
        return f"failed: {one_line(cause if isinstance(cause, Exception) else error)}"
    if isinstance(error, ray.exceptions.RayActorError):
        return "is down and is being started again"
    return f"cannot be reached ({type(error).__name__})"


def _end(ray: Any, actors: Sequence[Any]) -> None:
    for actor in actors:
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(actor)
