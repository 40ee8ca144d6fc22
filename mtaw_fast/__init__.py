"""Session-based recommendation: rank the next item of a session from the clicks before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtaw_fast.config import Config
    from mtaw_fast.data.dataset import Dataset
    from mtaw_fast.data.sessions import Sessions
    from mtaw_fast.errors import MtawError
    from mtaw_fast.recommender import Recommender
    from mtaw_fast.refreshing import refresh
    from mtaw_fast.workflow import compare, evaluate, prepare, train

__version__ = "0.2.0"
__all__ = [
    "Config",
    "Dataset",
    "MtawError",
    "Recommender",
    "Sessions",
    "__version__",
    "compare",
    "evaluate",
    "prepare",
    "refresh",
    "train",
]

_MODULES = {
    "Config": "mtaw_fast.config",
    "Dataset": "mtaw_fast.data.dataset",
    "MtawError": "mtaw_fast.errors",
    "Recommender": "mtaw_fast.recommender",
    "Sessions": "mtaw_fast.data.sessions",
    "compare": "mtaw_fast.workflow",
    "evaluate": "mtaw_fast.workflow",
    "prepare": "mtaw_fast.workflow",
    "refresh": "mtaw_fast.refreshing",
    "train": "mtaw_fast.workflow",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'mtaw_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
