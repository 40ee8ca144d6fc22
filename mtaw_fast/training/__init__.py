"""From a data set to trained weights."""

from mtaw_fast.training.run import TrainedModel, train

__all__ = ["TrainedModel", "train"]
