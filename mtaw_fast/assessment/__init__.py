"""Measure a bundle on a data set, or compare two."""

from mtaw_fast.assessment.compare import compare
from mtaw_fast.assessment.evaluate import evaluate

__all__ = ["compare", "evaluate"]
