"""Make batches in a thread while the device works on earlier ones."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def made_ahead(make: Callable[[Given], Made], givens: Sequence[Given], ahead: int) -> Iterator[tuple[Given, Made]]:
    """Yield (given, make(given)) for each, in order.

    make: called in order from one thread. ahead: how many may be ready in addition to the one that is being made. 0
    makes each on request, in the caller's thread.
    Raises what `make` raised, when its result is requested.
    """
    if ahead == 0:
        yield from ((given, make(given)) for given in givens)
        return
    with ThreadPoolExecutor(1, "batches") as pool:
        ready = deque(pool.submit(make, given) for given in givens[: ahead + 1])
        try:
            for given, later in itertools.zip_longest(givens, givens[ahead + 1 :]):
                made = ready.popleft().result()
                if later is not None:
                    ready.append(pool.submit(make, later))
                yield given, made
        finally:
            pool.shutdown(cancel_futures=True)
