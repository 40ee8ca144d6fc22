"""Save a bundle as an MLflow model of the pyfunc flavor. It is loaded from its folder, and nothing is pickled.

    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    model.predict(pandas.DataFrame({"session": [["sku-9", "sku-4"]]}), params={"k": 10})

returns a frame with the columns `items` and `scores`: one list per session, best first.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtaw_fast import __version__
from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import UsageError, require
from mtaw_fast.recommender import Recommender

COLUMN = "session"
_K = 20


class BundleModel:
    """The object that MLflow loads; MLflow calls only `predict`."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return a pandas.DataFrame with `items` and `scores`, one list per session, with the index of the input.

        model_input: sessions of external ids, oldest click first: lists, or a frame's column 'session', or its only
        one. params: `k`, the number of items, 20 by default. Raises UsageError if the frame has no such column, or as
        `Recommender.recommend_batch`.
        """
        pandas = require("pandas", "mlflow")
        index = None
        if hasattr(model_input, "columns"):
            names = list(model_input.columns)
            if COLUMN not in names and len(names) != 1:
                raise UsageError(
                    f"the frame has no column '{COLUMN}' (it has {', '.join(map(str, names))}); rename one"
                )
            column = model_input[COLUMN if COLUMN in names else names[0]]
            sessions, index = column.tolist(), column.index
        else:
            sessions = list(model_input)
        rankings = self.recommender.recommend_batch(sessions, k=int((params or {}).get("k", _K)))
        rows = {
            "items": [list(ranking.items) for ranking in rankings],
            "scores": [list(map(float, ranking.scores)) for ranking in rankings],
        }
        return pandas.DataFrame(rows, index=index)


def _load_pyfunc(data_path: str) -> BundleModel:
    """Load the model for MLflow. data_path: the bundle's folder."""
    return BundleModel(Recommender.load(data_path))


def save_model(bundle: Bundle | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a bundle as an MLflow model folder `path`, which must not exist, with a copy of the bundle under `data`.

    Raises MissingPackageError without the extra `mlflow`.
    """
    require("mlflow", "mlflow")
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    ids = DataType.string if loaded.ids.kind == "str" else DataType.long
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*An input example was not provided.*")  # the signature is whole
        mlflow.pyfunc.save_model(
            os.fspath(path),
            loader_module=__name__,
            data_path=os.fspath(Path(loaded.folder).resolve()),
            pip_requirements=[f"mtaw-fast[mlflow]=={__version__}"],
            signature=ModelSignature(
                inputs=Schema([ColSpec(Array(ids), COLUMN)]),
                outputs=Schema([ColSpec(Array(ids), "items"), ColSpec(Array(DataType.double), "scores")]),
                params=ParamSchema([ParamSpec("k", DataType.long, _K)]),
            ),
            metadata={"dataset": str(loaded.dataset.get("name") or ""), "items": loaded.n_items},
        )
