"""What a training knows beyond clicks: the columns of the visits' context, and the item table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mtaw_fast.data.context import ContextColumns
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native.trends import ItemContent
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.ranking.item_content import content_columns, item_content


@dataclass(frozen=True, slots=True, eq=False)
class SideInputs:
    """The columns that side features are made from; either part may be missing.

    Attributes
    ----------
    features : SideFeatures
        The side features of a ranker with trends.
    context : ContextColumns or None
        Of the sessions' context.
    items : ItemTable or None
        Of the data set's items.
    """

    features: SideFeatures = field(default_factory=SideFeatures)
    context: ContextColumns | None = None
    items: ItemTable | None = None

    @classmethod
    def of(cls, context: ContextColumns | None, items: ItemTable | None) -> SideInputs:
        """Return the inputs of a new ranker, which reads all of them that it can."""
        names = () if context is None else context.names
        return cls(replace(content_columns(items), context=names), context, items)

    @property
    def content(self) -> ItemContent | None:
        """The content that the features read."""
        return item_content(self.features, self.items)


NOTHING = SideInputs()
