"""Vectors of texts by a static embedding, a table of word vectors that model2vec reads. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, require


@dataclass(frozen=True)
class TextEmbedding:
    """A model of a local folder, which `StaticModel.save_pretrained` of model2vec wrote.

    d: the length of its vectors.
    """

    d: int
    _model: Any

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32[n, d]."""
        vectors = self._model.encode(list(texts), show_progress_bar=False, use_multiprocessing=False)
        return np.asarray(vectors, dtype=np.float32)


@lru_cache(maxsize=4)
def text_embedding(path: str) -> TextEmbedding:
    """Load a model from a folder.

    Raises UsageError if there is no such folder, DataError if it holds no model, MissingPackageError without model2vec.
    """
    static_model = require("model2vec", "text").StaticModel
    if not Path(path).is_dir():
        raise UsageError(f"text model: {path} is not a folder; name one that model2vec's save_pretrained wrote")
    try:
        model = static_model.from_pretrained(path)
        return TextEmbedding(int(model.dim), model)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"text model: {path} holds no model of model2vec ({reason}); write it again") from None
