"""From a data set to trained weights."""

from mtaw_fast.training.outcome import TrainedModel
from mtaw_fast.training.run import train

__all__ = ["TrainedModel", "train"]
