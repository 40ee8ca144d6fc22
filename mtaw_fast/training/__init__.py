"""From a data set to trained weights."""

from mtaw_fast.training.run import train
from mtaw_fast.training.trained_model import TrainedModel

__all__ = ["TrainedModel", "train"]
