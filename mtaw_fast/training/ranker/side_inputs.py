"""What a training knows beyond clicks: the columns of the visits' context, the item table, and the clicks' types."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.kernels.native.trends import ItemContent
from mtaw_fast.memory.ranker_net import type_feature_names
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.ranking.item_content import content_columns, item_content


@dataclass(frozen=True, slots=True, eq=False)
class SideInputs:
    """What features beyond clicks and their times are made from; each part may be missing.

    features: the side features of a ranker with trends. context: the columns of the sessions' context. items: the table
    of the data set's items. types: the types of clicks that the ranker reads. type_names: the names of the codes in the
    sessions' types.
    """

    features: SideFeatures = field(default_factory=SideFeatures)
    context: ContextColumns | None = None
    items: ItemTable | None = None
    types: ClickTypes = field(default_factory=ClickTypes)
    type_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, dataset: Dataset, *, types: bool = True) -> SideInputs:
        """Return the inputs of a new ranker: everything in the data set that a ranker can read.

        types: whether it may read the types of clicks.
        """
        names = () if dataset.context is None else dataset.context.names
        click_types = ClickTypes.of_clicks(dataset.train.types, dataset.type_names) if types else ClickTypes()
        columns = replace(content_columns(dataset.items), context=names)
        return cls(columns, dataset.context, dataset.items, click_types, dataset.type_names)

    def names(self, *, trends: bool) -> tuple[str, ...]:
        """Return the names of all features of a ranker. trends: whether trends and side features are among them."""
        names = feature_names(trends=True) + self.features.names if trends else feature_names()
        return names + type_feature_names(self.types)

    def type_codes(self, sessions: Sessions) -> np.ndarray | None:
        """Return uint8[T]: the types of the clicks as the ranker reads them; None if it reads none."""
        return self.types.translated(sessions.types, self.type_names)

    @property
    def content(self) -> ItemContent | None:
        """The content that the features read."""
        return item_content(self.features, self.items)


NOTHING = SideInputs()
