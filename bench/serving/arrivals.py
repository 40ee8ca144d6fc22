"""Send times of an open-loop load: a Poisson process that ramps up to its rate."""

from __future__ import annotations

import numpy as np

from mtaw_fast.errors import UsageError


def poisson_arrivals(rate: float, ramp: float, steady: float, seed: int) -> np.ndarray:
    """Return seconds from the start, ascending: float64[n].

    The rate rises linearly from 0 to `rate` a second during `ramp` seconds and stays there for `steady` more. Arrivals
    are independent of each other and of any answer; equal arguments give equal arrivals. Computed by inversion: the
    times at which the expected count passes the points of a unit Poisson process.

    Raises UsageError if the rate or the steady time is not positive, or the ramp is negative.
    """
    if rate <= 0 or steady <= 0 or ramp < 0:
        raise UsageError(f"a load needs rate > 0, steady > 0, ramp >= 0, not {rate:g}, {steady:g}, {ramp:g}")
    expected = rate * (ramp / 2 + steady)
    generator = np.random.default_rng(seed)
    # Six standard deviations more than expected, so that the loop below rarely has to draw more.
    points = np.cumsum(generator.exponential(size=int(expected + 6 * expected**0.5 + 10)))
    while points[-1] < expected:
        points = np.concatenate([points, points[-1] + np.cumsum(generator.exponential(size=100))])
    points = points[points < expected]
    turn = rate * ramp / 2  # the expected count at the end of the ramp
    rising = np.sqrt(2 * ramp * np.minimum(points, turn) / rate)
    return np.where(points < turn, rising, points / rate + ramp / 2)
