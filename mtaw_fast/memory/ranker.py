"""The ranker of the session memory: what turns a candidate's features into its score.

Axes: F features.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.tensorfile import map_tensors, write_tensors

ARRAYS = ("mean", "scale", "linear", "w1", "b1", "w2", "b2", "w3", "bias")
_FEATURES = "features"


@dataclass(frozen=True, slots=True, eq=False)
class Ranker:
    """score = linear.x + bias + w3.relu(w2^T relu(w1^T x + b1) + b2) of x = (features - mean) * scale.

    features: the names of the F columns, in order; a column that the ranker does without has the scale 0. All arrays
    are float32: mean, scale (1 / deviation), linear [F]; w1 [F, n1]; b1 [n1]; w2 [n1, n2]; b2, w3 [n2]; bias [1].

    Raises DataError where the arrays do not fit together, are not finite, or are of other features than this release's.
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

    def __post_init__(self) -> None:
        if self.features != feature_names():
            raise DataError("ranker: it was fitted on other features than this release has; train it anew")
        n, n1, n2 = len(self.features), self.b1.size, self.b2.size
        shapes = {"mean": (n,), "scale": (n,), "linear": (n,), "w1": (n, n1), "b1": (n1,), "w2": (n1, n2),
                  "b2": (n2,), "w3": (n2,), "bias": (1,)}  # fmt: skip
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.dtype != np.float32 or array.shape != shape:
                raise DataError(
                    f"ranker: {name} must be float32{list(shape)}, not {array.dtype}{list(array.shape)}; train it anew"
                )
            if not np.isfinite(array).all():
                raise DataError(f"ranker: {name} holds a value that is not finite; train it anew")

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in ARRAYS}

    def scores(self, features: np.ndarray) -> np.ndarray:
        """float32[..] of features float32[.., F], in plain numpy."""
        x = (features - self.mean) * self.scale
        hidden = np.maximum(np.maximum(x @ self.w1 + self.b1, 0) @ self.w2 + self.b2, 0)
        return x @ self.linear + hidden @ self.w3 + self.bias[0]

    def save(self, path: Path) -> None:
        """Write everything to `path` in safetensors format, atomically."""
        names = np.frombuffer(json.dumps(self.features).encode(), dtype=np.uint8)
        write_tensors(path, {**self.arrays(), _FEATURES: names})

    @classmethod
    def load(cls, path: Path) -> Ranker:
        """Map what `save` wrote, read-only. Raises DataError where it is missing, damaged or of other features."""
        arrays = map_tensors(path)
        try:
            names = json.loads(arrays.pop(_FEATURES).tobytes())
            return cls(tuple(names), **{name: arrays[name] for name in ARRAYS})
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is no ranker ({type(error).__name__}: {error}); train the bundle anew") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
