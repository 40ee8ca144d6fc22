"""The ranker of the session memory: a linear part and a small network over a candidate's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np

from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native import memory_query
from mtaw_fast.memory.side_features import AGE, SideFeatures
from mtaw_fast.storage.tensor_file import Tensors, map_tensors, write_tensors

_NAMES = "features"  # the array of the names in a file: uint8, UTF-8, one name a line
_PANEL, _MAX_UNITS = 8, 256
_REMEDY = "retrain the bundle"
# As in kernels/native/trends/features.hpp: ages, which an item without a click has far from all that was fitted.
_BOUNDED = ("t_last_age", "t_first", AGE)
_MAX_DEVIATIONS = 3.0
# Of the features of the types of clicks, as in kernels/native/memory/own_items.hpp.
TYPE_PREFIX = "e_"  # begins their names alone
_TYPE_PARTS = ("e_last_", "e_near_", "e_own_")


@dataclass(frozen=True, slots=True, eq=False)
class RankerNet:
    """score = x . linear + bias + relu(relu(x w1 + b1) w2 + b2) . w3 with x = (feature - mean) * scale.

    x of the ages, `t_last_age`, `t_first` and `i_age_*`, is kept within -3..3.

    Axes: F features, n1 and n2 hidden units (multiples of 8, at most 256).
    features: the names of this release's features in the order of the rows, with or without those of trends; then the
    side features, then those of the types of clicks. types: the types of clicks that it reads.
    All arrays are float32: mean, scale (1 / standard deviation), linear [F]; w1 [F, n1], b1 [n1]; w2 [n1, n2], b2 [n2];
    w3 [n2]; bias [1].

    Raises DataError on arrays that do not fit, a value that is not finite, or another release's features.
    """

    features: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    linear: np.ndarray
    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    w3: np.ndarray
    bias: np.ndarray
    types: ClickTypes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", types_in(self.features))
        expected = fixed = memory_query.feature_names(trends=self.has_trends)
        begin = self.features[: len(fixed)]
        if self.has_trends and begin == fixed:
            expected += self.side.names
        expected += type_feature_names(self.types)
        if self.features != expected:
            odd = sorted(set(begin) ^ set(fixed))
            difference = f"'{odd[0]}' is in only one of the lists" if odd else "the order differs"
            raise DataError(f"ranker: its features are not this release's ({difference}); {_REMEDY}")
        f, n1, n2 = len(expected), self.b1.size, self.b2.size
        shapes = {
            "mean": (f,), "scale": (f,), "linear": (f,), "w1": (f, n1), "b1": (n1,), "w2": (n1, n2), "b2": (n2,),
            "w3": (n2,), "bias": (1,),
        }  # fmt: skip
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape != shape:
                raise DataError(
                    f"ranker: {name} must be float32{list(shape)}, not {array.dtype}{list(array.shape)}; {_REMEDY}"
                )
            if not np.isfinite(array).all():
                raise DataError(f"ranker: {name} has a value that is not finite; {_REMEDY}")
        for name, units in (("b1", n1), ("b2", n2)):
            if units % _PANEL or not 0 < units <= _MAX_UNITS:
                raise DataError(f"ranker: {name} is for {units} hidden units, not a multiple of 8 up to 256")

    @property
    def has_trends(self) -> bool:
        """Whether it has the features of trends."""
        return len(self._untyped) > len(memory_query.feature_names())

    @property
    def _untyped(self) -> tuple[str, ...]:
        """The features without those of the types of clicks, which come last."""
        return self.features[: len(self.features) - len(type_feature_names(self.types))]

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest value of each feature, float32[F] each; infinite without a bound."""
        return feature_bounds(self.features, self.mean, self.scale)

    @property
    def side(self) -> SideFeatures:
        """The ranker's features of context and content. Raises DataError if an unknown feature is among them."""
        return SideFeatures.of(self._untyped[len(memory_query.feature_names(trends=True)) :])

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {
            member.name: getattr(self, member.name) for member in fields(self) if member.init and member.name != _NAMES
        }

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Return the scores float64[..] of candidates with features float[.., F]; the native ranker uses float32."""
        arrays = {name: array.astype(np.float64) for name, array in self.arrays().items()}
        x = (np.clip(features, *self.bounds()) - arrays["mean"]) * arrays["scale"]
        hidden = np.maximum(x @ arrays["w1"] + arrays["b1"], 0)
        hidden = np.maximum(hidden @ arrays["w2"] + arrays["b2"], 0)
        return x @ arrays["linear"] + arrays["bias"] + hidden @ arrays["w3"]

    def native(self) -> memory_query.NativeRankerNet:
        """Return the ranker in the form of `SessionMemory.rank`."""
        return memory_query.NativeRankerNet(self.arrays(), len(self.types))

    def save(self, path: Path) -> None:
        """Write the ranker to `path` as one safetensors file, atomically."""
        names = np.frombuffer("\n".join(self.features).encode(), dtype=np.uint8)
        write_tensors(path, {**self.arrays(), _NAMES: names})

    @classmethod
    def load(cls, path: Path | Tensors) -> RankerNet:
        """Read what `save` wrote. Raises DataError if the file is missing or for other features."""
        arrays = map_tensors(path)
        return cls(features=tuple(arrays.pop(_NAMES).tobytes().decode().split("\n")), **arrays)


def feature_bounds(features: Sequence[str], mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the most value that a ranker takes of each feature, float32[F]; infinite without a bound."""
    room = np.full(len(mean), np.inf)
    rows = [row for row, name in enumerate(features) if name.startswith(_BOUNDED) and scale[row] > 0]
    room[rows] = _MAX_DEVIATIONS / scale[rows].astype(np.float64)
    return (mean - room).astype(np.float32), (mean + room).astype(np.float32)


def type_feature_names(types: ClickTypes) -> tuple[str, ...]:
    """Return the names of the features of some types, in their order."""
    return tuple(f"{part}{name}" for part in _TYPE_PARTS for name in types.names)


def types_in(features: tuple[str, ...]) -> ClickTypes:
    """Return the types that a ranker with these features reads.

    Raises DataError if its features of types are not this release's.
    """
    names = tuple(name for name in features if name.startswith(TYPE_PREFIX))
    types = ClickTypes(tuple(name.removeprefix(_TYPE_PARTS[0]) for name in names if name.startswith(_TYPE_PARTS[0])))
    if type_feature_names(types) != names or len(types) > memory_query.MAX_TYPES:
        raise DataError("ranker: its features of the types of clicks are not this release's; retrain the bundle")
    return types
