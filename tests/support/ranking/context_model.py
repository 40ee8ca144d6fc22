"""A model whose ranker reads the context of visits and the content of items."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mtaw_fast.bundle import Model
from mtaw_fast.data.context import ClickContext, ContextColumns
from mtaw_fast.items import ItemTable
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.memory.trends import TrendTables
from tests.support.ranking.timed_model import END, HOUR, N, timed_model

COLUMNS = ContextColumns(("referrer", "region"), (("search", "mail"), ("north",)))
SIDE = SideFeatures(COLUMNS.names, ("category",), "created")


def context_model() -> Model:
    """Visits by mail click the upper half of the items, others the lower; the ranker goes by that alone, mostly."""
    plain = timed_model()
    assert plain.memory is not None
    assert plain.trends is not None
    assert plain.clicked_at is not None
    assert plain.ranker_net is not None
    rng, sessions = np.random.default_rng(1), plain.sessions
    upper = sessions.items >= N // 2
    codes = np.stack([np.where(upper, 3, 2), rng.integers(0, 3, len(upper))], axis=1).astype(np.uint16)
    context = ClickContext(COLUMNS, codes)
    trends = TrendTables.build(
        replace(sessions, context=codes), plain.clicked_at, N, plain.trends.settings, context_sizes=COLUMNS.sizes
    )
    names, added = SIDE.names, len(SIDE.names)
    net = plain.ranker_net
    linear = np.array([20.0 if name == "c_lift_referrer" else 0.0 for name in names], np.float32)
    wide = replace(
        net, features=(*net.features, *names), mean=np.concatenate([net.mean, np.zeros(added, np.float32)]),
        scale=np.concatenate([net.scale, np.ones(added, np.float32)]),
        linear=np.concatenate([0.01 * net.linear, linear]),
        w1=np.concatenate([0.01 * net.w1, np.zeros((added, net.w1.shape[1]), np.float32)]),
    )  # fmt: skip
    ids = plain.ids.external(np.arange(N))
    frame = ItemFrame.of(
        {"id": ids, "category": [f"c{i % 4}" for i in range(N)], "created": [END - i * HOUR for i in range(N)]},
        kinds={"created": "time", "category": "category"},
    )
    items = ItemTable(0).replaced(frame, np.arange(N), N)
    return replace(plain, trends=trends, ranker_net=wide, context=context, items=items)
