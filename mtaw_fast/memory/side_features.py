"""The ranker's side features by name: popularity within the visit's context, and the content of items."""

from __future__ import annotations

from dataclasses import dataclass

from mtaw_fast.errors import DataError

AGE = "i_age_"  # begins the name of the feature of a time column


@dataclass(frozen=True, slots=True)
class SideFeatures:
    """Which columns the side features of a ranker are made from, in the order of the native features.

    context: columns of the log. categories, created: category columns and a time column of the item table.
    `kernels/native/trends/features.hpp` has the formulas.
    """

    context: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    created: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features."""
        context = [f"{part}_{name}" for name in self.context for part in ("c_share", "c_lift")]
        categories = [f"{part}_{name}" for name in self.categories for part in ("i_same", "i_part")]
        created = [] if self.created is None else [f"{AGE}{self.created}"]
        return (*context, *categories, *created)

    @property
    def has_content(self) -> bool:
        """Whether any feature is made from the item table."""
        return bool(self.categories) or self.created is not None

    @classmethod
    def of(cls, names: tuple[str, ...]) -> SideFeatures:
        """Return the columns that features with these names are made from. Raises DataError on other names."""

        def listed(prefix: str) -> tuple[str, ...]:
            return tuple(name.removeprefix(prefix) for name in names if name.startswith(prefix))

        created = listed(AGE)
        features = cls(listed("c_share_"), listed("i_same_"), created[0] if created else None)
        if features.names != names:
            raise DataError("ranker: its features of context and content are not this release's; retrain the bundle")
        return features
