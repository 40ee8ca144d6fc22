"""The loss: forward and backward with what they move and compute, and every tile of the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.gpu.peers import GAMMA, SCALE, ours
from bench.gpu.setting import Setting, WrongResultError, errors_of, inputs, step_of
from mtaw_fast.kernels.aw_loss import configs

_ours = ours(GAMMA)


def loss(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the forward pass without and with the queries' sums, and a whole step of the loss."""
    q, e, targets = inputs(setting)
    errors = errors_of(setting, _ours, SCALE, GAMMA)
    b, n, columns = setting.rows, setting.items, configs.power_of_two(setting.d)
    vectors = 2 * n * configs.width(setting.d)  # bytes of the catalog's unit vectors
    given = 4 * n * setting.d
    for part, work, products, bytes_moved in (
        ("forward, no gradient", lambda: _ours(q.detach(), e.detach(), targets), 1, given + 2 * vectors),
        ("forward", lambda: _ours(q, e, targets), 2, given + 2 * vectors),
        ("forward and backward", lambda: step_of(_ours, q, e, targets), 4, 3 * given + 3 * vectors),
    ):
        time = setting.time(work)
        rates = {}
        if time:
            seconds = time["p50_us"] * 1e-6
            rates = {
                "tflops": round(2 * products * b * n * columns / seconds * 1e-12, 1),
                "gexp_s": round(max(1, products // 2) * b * n / seconds * 1e-9, 1),
                "gb_s": round(bytes_moved / seconds * 1e-9, 1),
            }
        yield {"part": part, "B": b, "N": n, "d": setting.d, "error": f"{max(errors):.1e}", **time, **rates}


def tiles(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time every tile of each pass, with the chosen tile in the other pass: the figures behind `configs.CHOSEN`."""
    q, e, targets = inputs(setting)
    first_queries, first_items = chosen = configs.CHOSEN
    pairs = [("queries", (tile, first_items)) for tile in configs.QUERIES_TILES]
    pairs += [("items", (first_queries, tile)) for tile in configs.ITEMS_TILES]
    try:
        for kind, pair in pairs:
            configs.CHOSEN = pair
            forward = kind == "queries"
            facts = {"pass": kind, "tile": pair[0 if forward else 1]}
            try:
                error = max(errors_of(setting, _ours, SCALE, GAMMA))
                work = (lambda: _ours(q, e, targets)) if forward else (lambda: step_of(_ours, q, e, targets))
                time = setting.time(work)
            except Exception as reason:  # a tile that this GPU has no room or no instruction for
                if pair == chosen or isinstance(reason, WrongResultError):
                    raise
                yield {**facts, "skipped": (str(reason).splitlines() or [type(reason).__name__])[0][:200]}
            else:
                timed = "forward" if forward else "forward and backward"
                yield {**facts, "timed": timed, "error": f"{error:.1e}", **time}
    finally:
        configs.CHOSEN = chosen
