"""Adaptive-weight loss over the softmax of the whole catalog."""

from mtaw_fast.kernels.aw_loss.interface import aw_loss, choose_backend

__all__ = ["aw_loss", "choose_backend"]
